import { describe, expect, it } from "vitest";
import { Generation } from "../src/engine/generation";
import { scan, ScanLimitError } from "../src/engine/scan";
import { combine, has, mergeRanges, firstRows, maskOf, OPERATIONS, rangesOf, selectionOf, sizeOf, type Selection } from "../src/engine/selection";
import { boxShape, contains, relation, type Shape } from "../src/engine/shape";
import { Store } from "../src/engine/store";
import { entry, haveFixture, read, server, type Expected } from "./files";

/** Numbers that look random and are the same each time. */
function random(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 16807) % 2147483647) / 2147483647;
}

const members = (selection: Selection): string[] =>
  [...selection].flatMap(([g, ranges]) => Array.from({ length: 80 }, (_, p) => p).filter((p) => has(ranges, p)).map((p) => `${g}/${p}`));

describe("a selection", () => {
  const next = random(7);
  const some = (share: number) => Array.from({ length: 80 }, (_, p) => p).filter(() => next() < share);

  it("is the set that it is made of, whatever is done with it", () => {
    for (let round = 0; round < 60; round++) {
      const [a, b] = [0.1, 0.6].map((share) => new Map([0, 2].map((g) => [g, new Set(some(share))])));
      const [x, y] = [a, b].map((sets) => new Map([...sets].filter(([, set]) => set.size).map(([g, set]) => [g, rangesOf([...set])])));
      const expected = { replace: (_: boolean, inB: boolean) => inB, add: (inA: boolean, inB: boolean) => inA || inB, subtract: (inA: boolean, inB: boolean) => inA && !inB, intersect: (inA: boolean, inB: boolean) => inA && inB };
      for (const operation of OPERATIONS) {
        const made = combine(x, operation, y);
        const wanted = [0, 2].flatMap((g) => Array.from({ length: 80 }, (_, p) => p).filter((p) => expected[operation](a.get(g)!.has(p), b.get(g)!.has(p))).map((p) => `${g}/${p}`));
        expect(members(made).sort()).toEqual(wanted.sort());
        expect(sizeOf(made)).toBe(wanted.length);
        expect(firstRows(made, [{ number: 0 }, { number: 2 }], 999).map(({ generation, position }) => `${generation.number}/${position}`).sort()).toEqual(wanted);
      }
      const mask = maskOf(x.get(0), 13, 31);
      expect([...mask]).toEqual(Array.from({ length: 31 }, (_, i) => Number(a.get(0)!.has(13 + i))));
    }
  });

  it("of millions is a few ranges", () => {
    const whole = new Map([[0, [0, 100_000_000]]]);
    const without = combine(whole, "subtract", selectionOf([{ generation: { number: 0 }, position: 5_000_000 }]));
    expect(sizeOf(without)).toBe(99_999_999);
    expect(without.get(0)).toEqual([0, 5_000_000, 5_000_001, 100_000_000]);
    expect(combine(without, "intersect", new Map())).toEqual(new Map());
    expect(combine(null, "add", whole)).toEqual(whole);
  });

  it("joins ranges that touch or overlap, in any order", () => {
    expect(mergeRanges([[5, 7], [0, 2], [2, 4], [6, 9], [11, 11]])).toEqual([0, 4, 5, 9]);
  });
});

describe("a shape", () => {
  const star: Shape = [0, 3, 0.7, 0.7, 3, 0, 0.7, -0.7, 0, -3, -0.7, -0.7, -3, 0, -0.7, 0.7];

  it("tells what lies in it, and never takes a box for whole that is not", () => {
    const next = random(11);
    const kinds = new Set<string>();
    for (let round = 0; round < 2000; round++) {
      const [x, y, w] = [next() * 7 - 3.5, next() * 7 - 3.5, next() ** 2];
      const box = { x0: x, y0: y, x1: x + w, y1: y + w };
      const how = relation(star, box);
      kinds.add(how);
      if (how === "crossed") continue;
      for (let i = 0; i < 20; i++) expect(contains(star, x + next() * w, y + next() * w)).toBe(how === "inside");
    }
    expect(kinds).toEqual(new Set(["inside", "outside", "crossed"]));
  });

  it("that lies in a box crosses it", () => {
    expect(relation(star, { x0: -9, y0: -9, x1: 9, y1: 9 })).toBe("crossed");
    expect(relation(boxShape({ x0: -9, y0: -9, x1: 9, y1: 9 }), { x0: -1, y0: -1, x1: 1, y1: 1 })).toBe("inside");
  });
});

describe.skipIf(!haveFixture)("a question to the whole map", () => {
  const data = haveFixture ? read<Expected>("expected.json") : ({} as Expected);
  const make = (log?: string[]) => new Generation(0, entry(), new Store("http://localhost/", server("whole", log)));
  const triangle: Shape = [-12, -9, 11, -2, -1, 12];
  const ask = { shape: null, clusters: null, passes: null };

  it("finds the documents in a lasso, each once, and of clusters alone", async () => {
    const generation = make();
    for (const clusters of [null, new Set([1, -1])]) {
      const found = await scan([generation], { ...ask, shape: triangle, clusters });
      const rowIds = await generation.rowIds(found.get(0)!);
      const wanted = data.rowIds.filter((_, i) => contains(triangle, data.x[i], data.y[i]) && (!clusters || clusters.has(data.clusters[i])));
      const apart = new Set(rowIds);
      expect(rowIds).toHaveLength(sizeOf(found));
      // A point on the edge may lie on its other side by half a step of its tile.
      for (const row of wanted) apart.has(row) ? apart.delete(row) : apart.add(row);
      expect(apart.size).toBeLessThanOrEqual(2);
      expect(wanted.length).toBeGreaterThan(1000);
    }
  });

  it("reads no tile that lies in the shape, and none at all for the whole map", async () => {
    const log: string[] = [];
    const generation = make(log);
    const { origin, side } = generation.entry;
    const half = boxShape({ x0: origin[0] - 1, y0: origin[1] - 1, x1: origin[0] + side * 0.4999, y1: origin[1] + side + 1 });
    const found = await scan([generation], { ...ask, shape: half });
    expect(sizeOf(found)).toBeGreaterThan(1000);
    const tiles = log.filter((line) => line.includes("/tiles/"));
    expect(tiles.length).toBeLessThan(generation.entry.tiles / 1.5);
    expect(await scan([make(log)], ask)).toEqual(new Map([[0, [0, data.rowIds.length]]]));
    expect(log.filter((line) => line.includes("/tiles/"))).toEqual(tiles);
  });

  it("is refused where it would read more than a page should", async () => {
    const generation = make();
    await generation.page("0-0-0");
    const { tiles } = generation.tree;
    const root = tiles.get("0-0-0")!;
    // A tree of as many tiles as a map of millions has.
    tiles.clear();
    for (let z = 0; z < 6; z++)
      for (let x = 0; x < 2 ** z; x++)
        for (let y = 0; y < 2 ** z; y++) {
          tiles.set(`${z}-${x}-${y}`, { ...root, key: `${z}-${x}-${y}`, z, x, y, children: z < 5 ? 15 : 0 });
          generation.tree.pages.add(generation.tree.pageOf(z, x, y));
        }
    await expect(scan([generation], { ...ask, clusters: new Set([1]) })).rejects.toThrow(ScanLimitError);
  });
});
