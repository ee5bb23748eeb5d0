import { describe, expect, it } from "vitest";
import { Generation, type LoadedTile } from "../src/engine/generation";
import { chooseTiles } from "../src/engine/lod";
import { decodeTile } from "../src/engine/parquet";
import { positionAt } from "../src/engine/positions";
import { pickNearest } from "../src/engine/pick";
import { MissingFile, Store } from "../src/engine/store";
import { entry, haveFixture, read, server, type Expected, type Kind } from "./files";

const open = (kind: Kind, log: string[] = []) => {
  const store = new Store("http://localhost/", server(kind, log));
  return new Generation(0, entry(), store);
};

async function everything(generation: Generation): Promise<LoadedTile[]> {
  const { origin, side } = generation.entry;
  const view = { x0: origin[0], y0: origin[1], x1: origin[0] + side, y1: origin[1] + side };
  for (;;) {
    const choice = chooseTiles(generation.tree, { view, scale: 1e9, budget: 1e9, minEdge: 1 });
    if (!choice.pages.length) return Promise.all(choice.tiles.map((tile) => generation.tile(tile)));
    await Promise.all(choice.pages.map((page) => generation.page(page)));
  }
}

describe.skipIf(!haveFixture)("a generation that Python wrote", () => {
  it("decodes to every point, at its place, with its cluster and its document", async () => {
    const expected = read<Expected>("expected.json");
    const generation = open("ranges");
    const tiles = await everything(generation);
    const row = new Map(expected.rowIds.map((id, i) => [id, i]));
    const seen = new Set<number>();
    expect(tiles.reduce((sum, tile) => sum + tile.count, 0)).toBe(expected.rowIds.length);
    for (const tile of tiles) {
      const step = (tile.bounds.x1 - tile.bounds.x0) / 65536;
      for (let i = 0; i < tile.count; i += 97) {
        const document = await generation.document(tile.info.first + i);
        const at = row.get(document.rowId)!;
        expect(seen.has(at)).toBe(false);
        seen.add(at);
        expect(Math.abs(tile.bounds.x0 + (tile.xy[2 * i] + 0.5) * step - expected.x[at])).toBeLessThan(step);
        expect(Math.abs(tile.bounds.y0 + (tile.xy[2 * i + 1] + 0.5) * step - expected.y[at])).toBeLessThan(step);
        expect(tile.cluster[i]).toBe(expected.clusters[at]);
        expect(document.values[0][1]).toContain(`Document number ${at} `);
        expect(document.values.at(-1)).toEqual(["__proto__", `proto ${at % 3}`]);
      }
    }
  });

  it("knows at the closest zoom every point to half a pixel, and before that asks for no more than it needs", async () => {
    const expected = read<Expected>("expected.json");
    const log: string[] = [];
    const generation = open("ranges", log);
    const tiles = await everything(generation);
    const edge = generation.entry.side;
    expect(tiles.some((tile) => generation.isCoarse(tile, 60_000 / edge))).toBe(false);
    expect(tiles.every((tile) => generation.isCoarse(tile, 4e6 / edge))).toBe(true);
    const row = new Map(expected.rowIds.map((id, i) => [id, i]));
    for (const tile of tiles) {
      const before = tile.xy;
      await generation.refine(tile);
      expect(generation.isCoarse(tile, 4e6 / edge)).toBe(false);
      for (let i = 0; i < tile.count; i += 97) {
        const at = row.get((await generation.document(tile.info.first + i)).rowId)!;
        const [x, y] = positionAt(tile, i);
        expect(Math.hypot(x - expected.x[at], y - expected.y[at]) * (4e6 / edge)).toBeLessThan(0.75);
        expect(Math.floor((tile.xy[2 * i] * 65536) / tile.steps)).toBe(before[2 * i]);
      }
    }
    expect(log.filter((line) => line.includes("/cols/fine/"))).toHaveLength(tiles.length);
  });

  it("finds a document by its row id, and knows which are not there", async () => {
    const generation = open("ranges");
    for (const row of [0, 1, 20_000, 39_999]) {
      const position = await generation.positionOf(row * 3 + 5);
      expect((await generation.document(position!)).rowId).toBe(row * 3 + 5);
      const tile = await generation.tileOf(position!);
      expect(position! - tile.first).toBeLessThan(tile.count);
    }
    expect(await generation.positionOf(6)).toBeNull();
    expect(await generation.positionOf(-1)).toBeNull();
    expect(await generation.positionOf(10 ** 9)).toBeNull();
  });

  it("reads one row group by range: the footer once, then the group", async () => {
    const log: string[] = [];
    const generation = open("ranges", log);
    await generation.page("0-0-0");
    log.length = 0;
    await generation.document(100);
    await generation.document(101);
    const asked = log.filter((line) => line.includes("/rows/"));
    expect(asked).toHaveLength(2);
    expect(asked.every((line) => line.includes("bytes="))).toBe(true);
  });

  it.each(["whole", "refuses"] as const)("gets along with a server that answers ranges with %s", async (kind) => {
    const log: string[] = [];
    const generation = open(kind, log);
    expect((await generation.document(100)).values[0][1]).toMatch(/^Document number/);
    await generation.document(3000);
    await generation.document(101);
    const rows = log.filter((line) => line.includes("/rows/0.parquet"));
    expect(rows.filter((line) => !line.includes("bytes=")).length).toBeLessThanOrEqual(1);
  });

  it("reads a colour column in the order of the tile's points", async () => {
    const expected = read<Expected>("expected.json");
    const generation = open("ranges");
    const [tile] = await everything(generation);
    const nearest = await generation.column(tile.info, "nearest_cluster");
    for (let i = 0; i < tile.count; i++) if (tile.cluster[i] >= 0) expect(nearest[i]).toBe(tile.cluster[i]);
    const { colours } = await generation.index();
    const score = await generation.column(tile.info, colours.find((c) => c.name === "score")!.id);
    const { rowId } = await generation.document(tile.info.first + 5);
    const at = expected.rowIds.indexOf(rowId);
    if (at % 10) expect(score[5]).toBe(at);
    else expect(score[5]).toBeNaN();
  });

  it("picks what a search through all points finds", async () => {
    const generation = open("ranges");
    const tiles = await everything(generation);
    let random = 12345;
    const next = () => (random = (random * 1103515245 + 12345) % 2147483648) / 2147483648;
    for (let k = 0; k < 60; k++) {
      const x = -12 + 24 * next();
      const y = -12 + 24 * next();
      let best = Infinity;
      for (const tile of tiles) {
        const step = (tile.bounds.x1 - tile.bounds.x0) / 65536;
        for (let i = 0; i < tile.count; i++) {
          const dx = tile.bounds.x0 + (tile.xy[2 * i] + 0.5) * step - x;
          const dy = tile.bounds.y0 + (tile.xy[2 * i + 1] + 0.5) * step - y;
          best = Math.min(best, Math.hypot(dx, dy));
        }
      }
      const picked = pickNearest(tiles, x, y, 0.5, () => true);
      if (best > 0.5) expect(picked).toBeNull();
      else expect(Math.hypot(picked!.x - x, picked!.y - y)).toBeCloseTo(best, 6);
    }
    expect(pickNearest(tiles, 10, 0, 0.5, () => false)).toBeNull();
  });

  it("reads a tile of the first format, which had x and y apart", async () => {
    const tile = await decodeTile(await new Store("http://localhost/", server("ranges")).file("old.parquet"), 2);
    expect([[...tile.xy], [...tile.cluster]]).toEqual([[7, 0, 65535, 9], [-1, 700]]);
  });

  it("says which file is missing, and asks for it once", async () => {
    const log: string[] = [];
    const store = new Store("http://localhost/", server("ranges", log));
    await expect(store.file("tiles/9-9-9.parquet")).rejects.toBeInstanceOf(MissingFile);
    await expect(store.file("tiles/9-9-9.parquet")).rejects.toThrow("9-9-9.parquet is missing");
    expect(log).toHaveLength(1);
  });
});
