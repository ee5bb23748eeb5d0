import { describe, expect, it } from "vitest";
import type { CategoryColumn, ClusterEntry, LabelsFile, Manifest, NumberColumn } from "../src/engine/format";
import { Generation, REMOVED, locate, type LoadedTile } from "../src/engine/generation";
import { ADDED, mergeIndexes, type MergedIndex } from "../src/engine/merge";
import { chooseTiles } from "../src/engine/lod";
import { Store } from "../src/engine/store";
import { haveFixture, read, server, type Kind } from "./files";

interface Grown {
  rowIds: number[];
  x: number[];
  y: number[];
  clusters: number[];
  generations: number[];
  kinds: string[];
  scores: (number | null)[];
  gone: number[][];
}

async function open(kind: Kind, log: string[] = []): Promise<Generation[]> {
  const store = new Store("http://localhost/grown/viewer/", server(kind, log));
  const { generations } = await store.json<Manifest>("manifest.json");
  return generations.map((entry, i) => new Generation(i, entry, store));
}

async function everything(generation: Generation): Promise<LoadedTile[]> {
  const { origin, side } = generation.entry;
  const view = { x0: origin[0], y0: origin[1], x1: origin[0] + side, y1: origin[1] + side };
  for (;;) {
    const choice = chooseTiles(generation.tree, { view, scale: 1e9, budget: 1e9, minEdge: 1 });
    if (!choice.pages.length) return Promise.all(choice.tiles.map((tile) => generation.tile(tile)));
    await Promise.all(choice.pages.map((page) => generation.page(page)));
  }
}

async function merged(generations: Generation[]): Promise<MergedIndex> {
  return mergeIndexes(
    await Promise.all(generations.map(async (g) => ({ entry: g.entry, index: await g.index(), removed: (await g.removed()).counts }))),
  );
}

const count = (values: readonly unknown[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const value of values) counts[String(value)] = (counts[String(value)] ?? 0) + 1;
  return counts;
};

describe.skipIf(!haveFixture).each(["ranges", "whole", "refuses"] as const)("a map that grew, from a server that answers ranges with %s", (kind) => {
  it("has every document once, in the last generation that holds it", async () => {
    const expected = read<Grown>("grown.json");
    const generations = await open(kind);
    expect(generations.reduce((sum, g) => sum + g.documents, 0)).toBe(expected.rowIds.length);
    expect(generations.reduce((sum, g) => sum + g.noise, 0)).toBe(expected.clusters.filter((c) => c < 0).length);
    const drawn: Record<number, number> = {};
    let points = 0;
    for (const generation of generations) {
      for (const tile of await everything(generation)) {
        const alive = tile.cluster.filter((c) => c !== REMOVED);
        expect(alive.length).toBe(tile.count - tile.removed);
        points += alive.length;
        for (const c of alive) drawn[c] = (drawn[c] ?? 0) + 1;
      }
    }
    expect(points).toBe(expected.rowIds.length);
    expect(drawn).toEqual(count(expected.clusters));
  });

  it("finds each at its place, and nothing that has left", async () => {
    const expected = read<Grown>("grown.json");
    const generations = await open(kind);
    const rows = [0, 1, 2].flatMap((g) => expected.rowIds.map((_, i) => i).filter((i) => expected.generations[i] === g).slice(0, 60));
    for (const i of rows) {
      const found = (await locate(generations, expected.rowIds[i]))!;
      expect(found.generation.number).toBe(expected.generations[i]);
      const tile = await found.generation.tile(await found.generation.tileOf(found.position));
      const at = found.position - tile.info.first;
      const step = (tile.bounds.x1 - tile.bounds.x0) / 65536;
      expect(Math.abs(tile.bounds.x0 + (tile.xy[2 * at] + 0.5) * step - expected.x[i])).toBeLessThan(step);
      expect(Math.abs(tile.bounds.y0 + (tile.xy[2 * at + 1] + 0.5) * step - expected.y[i])).toBeLessThan(step);
      expect(tile.cluster[at]).toBe(expected.clusters[i]);
      expect((await found.generation.document(found.position)).rowId).toBe(expected.rowIds[i]);
    }
    const alive = new Set(expected.rowIds);
    for (const [g, gone] of expected.gone.entries())
      for (const row of gone) {
        expect(await generations[g].positionOf(row)).toBeNull();
        const found = await locate(generations, row);
        if (alive.has(row)) expect(found!.generation.number).toBeGreaterThan(g);
        else expect(found).toBeNull();
      }
  });
});

describe.skipIf(!haveFixture)("a map that grew", () => {
  it("counts categories and values of the points present", async () => {
    const expected = read<Grown>("grown.json");
    const index = await merged(await open("ranges"));
    const kind = index.colours.find((c) => c.name === "kind") as CategoryColumn;
    expect(Object.fromEntries(kind.categories)).toEqual(count(expected.kinds));
    expect(kind.categories.at(-1)![0]).toBe("kind 9");
    const score = index.colours.find((c) => c.name === "score") as NumberColumn;
    expect(score.nulls).toBe(expected.scores.filter((v) => v === null).length);
    const values = expected.scores.filter((v) => v !== null).sort((a, b) => a - b);
    expect(score.max).toBeCloseTo(values.at(-1)!, 5);
    for (const k of [8, 32, 56]) {
      const below = values.filter((v) => v <= score.quantiles[k]).length / values.length;
      expect(Math.abs(below - k / 64)).toBeLessThan(0.01);
    }
    const source = index.colours.find((c) => c.name === "source") as CategoryColumn;
    expect(source.nulls).toBe(expected.generations.filter((g) => g === 1).length);
    const added = index.colours.find((c) => c.id === ADDED) as CategoryColumn;
    expect(added.categories.map(([, n]) => n)).toEqual([0, 1, 2].map((g) => expected.generations.filter((v) => v === g).length));
    expect(added.categories.map(([name]) => name)).toEqual(["First documents", "2026-01-01", "2026-01-02"]);
  });

  it("reads the colours of each generation as those of the whole", async () => {
    const expected = read<Grown>("grown.json");
    const generations = await open("ranges");
    const index = await merged(generations);
    const at = new Map(expected.rowIds.map((row, i) => [row, i]));
    for (const [name, id] of [["kind", "c1"], ["score", "c2"]]) {
      const column = index.colours.find((c) => c.name === name)!;
      expect(column.id).toBe(id);
      for (const generation of generations) {
        const source = index.sources.get(column.id)![generation.number]!;
        const tile = await generation.tile([...generation.tree.tiles.values()][0]);
        const values = await generation.column(tile.info, source.id);
        for (let i = 0; i < tile.count; i += 97) {
          if (tile.cluster[i] === REMOVED) continue;
          const row = at.get((await generation.document(tile.info.first + i)).rowId)!;
          if (column.kind === "categories") expect(column.categories[source.codes![values[i]]][0]).toBe(expected.kinds[row]);
          else if (expected.scores[row] === null) expect(values[i]).toBeNaN();
          else expect(values[i]).toBeCloseTo(expected.scores[row]!, 5);
        }
      }
    }
  });

  it("keeps each cluster's colour, and has the new one in the last labels", async () => {
    const generations = await open("ranges");
    const files = await Promise.all(generations.map((g) => g.json<LabelsFile>("labels.json")));
    const key = (c: ClusterEntry) => `${c.layer}.${c.id}`;
    const last = new Map(files[2].clusters.map((c) => [key(c), c]));
    for (const cluster of files[0].clusters) expect([last.get(key(cluster))!.hue, last.get(key(cluster))!.shade]).toEqual([cluster.hue, cluster.shade]);
    expect(files[2].clusters.length).toBe(files[0].clusters.length + 1);
    expect(Math.max(...files[2].clusters.map((c) => c.id))).toBe(15 * 7);
  });

  it("asks for little of an update before the user points at it", async () => {
    const log: string[] = [];
    const generations = await open("ranges", log);
    log.length = 0;
    const [update] = await everything(generations[1]);
    expect(update.count).toBe(600);
    expect(log.map((line) => line.split("/viewer/")[1]).sort()).toEqual(["removed-1.parquet", "tiles/0-0-0.parquet"]);
  });
});
