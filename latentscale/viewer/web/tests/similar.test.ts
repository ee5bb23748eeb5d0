import { describe, expect, it } from "vitest";
import type { Manifest } from "../src/engine/format";
import { Generation } from "../src/engine/generation";
import { similarQuery, parseSimilarQuery } from "../src/engine/similar";
import { similarTo } from "../src/engine/similar-search";
import { Store } from "../src/engine/store";
import { entry, haveFixture, read, server, type Expected } from "./files";

it("a search for what is like a document is written with its row id", () => {
  expect(parseSimilarQuery(similarQuery(-12))).toBe(-12);
  expect(parseSimilarQuery(" Like #7 ")).toBe(7);
  expect([parseSimilarQuery("like #"), parseSimilarQuery("like #7 cats"), parseSimilarQuery("#7")]).toEqual([null, null, null]);
});

describe.skipIf(!haveFixture)("what is like a document", { timeout: 60_000 }, () => {
  it("is read from one small file, nearest first", async () => {
    const log: string[] = [];
    const generation = new Generation(0, entry(), new Store("http://localhost/", server("whole", log)));
    const { rowIds } = read<Expected>("expected.json");
    for (const row of [0, 17, 39_998]) {
      const position = (await generation.positionOf(rowIds[row]))!;
      const before = log.length;
      const hits = (await similarTo([generation], { generation, position }))!;
      expect(log.length - before).toBe(1);
      expect(log[before]).toMatch(/sections\/similar\/lists\/\d+\.parquet$/);
      const found = await Promise.all(hits.map(async (hit) => (await generation.document(hit.position)).rowId));
      expect(found).toEqual([1, 2, 3, 4].map((step) => rowIds[(row + step) % rowIds.length]));
      expect(hits.map(({ score }) => Math.round(100 * score) / 100)).toEqual([0.9, 0.8, 0.7, 0.6]);
    }
  });

  it("is that of the map as it is now, across its updates", async () => {
    const { parts, gone } = read<{ parts: number[][]; gone: number[][] }>("grown.json");
    const store = new Store("http://localhost/grown/viewer/", server("whole"));
    const generations = (await store.json<Manifest>("manifest.json")).generations.map((one, i) => new Generation(i, one, store));
    const isGone = parts.map((_, g) => new Set(gone[g]));
    let outside = 0;
    for (let place = 0; place < 40; place += 1) {
      const rowIdAt = async (g: number, position: number) => (await generations[g].document(position)).rowId;
      const like = async (g: number, position: number) => {
        const hits = (await similarTo(generations, { generation: generations[g], position }))!;
        return Promise.all(hits.map(async (hit) => [hit.generation.number, await rowIdAt(hit.generation.number, hit.position)]));
      };
      const alive = (pairs: [number, number][]) => pairs.filter(([g, id]) => !isGone[g].has(id)).slice(0, 4);
      const next = (g: number, rowId: number, steps: number[]) =>
        steps.map((step): [number, number] => [g, parts[g][(parts[g].indexOf(rowId) + step) % parts[g].length]]);
      // Each update has a document that is nearest to the one at its place in the fit, the later update's first.
      const first = await rowIdAt(0, place);
      const updates: [number, number][] = [[2, parts[2][place]], [1, parts[1][place]]];
      if (isGone[0].has(first)) outside += 1;
      else expect(await like(0, place)).toEqual(alive([...updates, ...next(0, first, [1, 2, 3, 4])]));
      const position = await generations[1].positionOf(parts[1][place]);
      if (position === null) outside += 1;
      else expect(await like(1, position)).toEqual(alive([[0, first], ...next(1, parts[1][place], [2, 3, 4])]));
    }
    expect(outside).toBeLessThan(20);
  });

  it("is null where it is not stored", async () => {
    const generation = new Generation(0, entry(), new Store("http://localhost/", server("whole")));
    delete (await generation.index()).sections!.similar;
    expect(await similarTo([generation], { generation, position: 3 })).toBeNull();
  });
});
