import { describe, expect, it } from "vitest";
import type { CategoryColumn, ColourColumn, GenerationEntry, NumberColumn } from "../src/engine/format";
import { withoutEmptyGenerations, mergeIndexes, mergeQuantiles, type GenerationPart } from "../src/engine/merge";

const part = (colours: ColourColumn[], { documents = 100, columns = ["kind", "n"], removed = null as GenerationPart["removed"], gone = 0 } = {}): GenerationPart => ({
  entry: { documents, noise: 0, ...(gone ? { removed: { url: "r", count: gone } } : {}) } as GenerationEntry,
  index: { text: null, columns, colours, pages: [], ids: { rows: 1, first: [] } },
  removed,
});
const kind = (categories: [string, number][], more: Partial<CategoryColumn> = {}): CategoryColumn => ({
  id: "c0",
  name: "kind",
  kind: "categories",
  categories,
  other: [0, 0],
  nulls: 0,
  ...more,
});
const numbers = (quantiles: number[], more: Partial<NumberColumn> = {}): NumberColumn => ({
  id: "c1",
  name: "n",
  kind: "numbers",
  min: quantiles[0],
  max: quantiles.at(-1)!,
  quantiles,
  nulls: 0,
  ...more,
});

describe("columns of several generations", () => {
  it("have the codes of the oldest, and new names after them", () => {
    const merged = mergeIndexes([part([kind([["a", 60], ["b", 40]])]), part([kind([["b", 70], ["c", 20], ["a", 10]], { id: "c5" })])]);
    const [column] = merged.colours as CategoryColumn[];
    expect([column.id, column.categories]).toEqual(["c0", [["a", 70], ["b", 110], ["c", 20]]]);
    const sources = merged.sources.get("c0")!;
    expect([sources[1]!.id, [...sources[1]!.codes!.slice(0, 3)], sources[1]!.codes![255]]).toEqual(["c5", [1, 2, 0], 255]);
  });

  it("tell a name apart only where every generation with others does", () => {
    const merged = mergeIndexes([
      part([kind([["a", 60], ["b", 30]], { other: [5, 10] })]),
      part([kind([["b", 50], ["c", 50]])]),
    ]);
    const [column] = merged.colours as CategoryColumn[];
    expect(column.categories).toEqual([["a", 60], ["b", 80]]);
    expect(column.other).toEqual([6, 60]);
    expect([...merged.sources.get("c0")![1]!.codes!.slice(0, 2)]).toEqual([1, 64]);
  });

  it("show at most 64 categories", () => {
    const names = (from: number) => Array.from({ length: 60 }, (_, i): [string, number] => [`k${from + i}`, 1]);
    const [column] = mergeIndexes([part([kind(names(0))]), part([kind(names(30))])]).colours as CategoryColumn[];
    expect(column.categories).toHaveLength(64);
    expect(column.other).toEqual([26, 26]);
    expect(column.categories.reduce((sum, [, n]) => sum + n, 0) + column.other[1]).toBe(120);
  });

  it("count without what was removed", () => {
    const merged = mergeIndexes([
      part([kind([["a", 60], ["b", 35]], { nulls: 5 }), numbers([0, 1, 2], { nulls: 9 })], {
        gone: 8,
        removed: { noise: 1, columns: { c0: { 0: 3, 255: 2, 1: 3 }, c1: { 255: 4 } } },
      }),
      part([kind([["a", 100]]), numbers([0, 1, 2])]),
    ]);
    const [categories, values] = merged.colours as [CategoryColumn, NumberColumn];
    expect(categories.categories).toEqual([["a", 157], ["b", 32]]);
    expect([categories.nulls, values.nulls]).toEqual([3, 5]);
    expect((merged.colours.at(-1) as CategoryColumn).categories.map(([, n]) => n)).toEqual([92, 100]);
  });

  it("are without a value where a generation has no such column, and left out where it tells it otherwise", () => {
    const [column, added] = mergeIndexes([part([kind([["a", 100]])], { columns: ["kind"] }), part([], { documents: 7, columns: ["n"] })]).colours;
    expect([column.nulls, added.id]).toEqual([7, "added"]);
    expect(mergeIndexes([part([kind([["a", 100]])]), part([])]).colours.map((c) => c.id)).toEqual(["added"]);
    expect(mergeIndexes([part([numbers([0, 1])]), part([{ ...numbers([0, 1]), kind: "dates" }])]).colours.map((c) => c.id)).toEqual(["added"]);
  });

  it("of one generation are its own", () => {
    const own = [kind([["a", 1]]), numbers([0, 5, 9])];
    expect(mergeIndexes([part(own)]).colours).toEqual(own);
  });

  it("are those of all generations, whichever has them", () => {
    const merged = mergeIndexes([part([], { columns: ["kind", "n"] }), part([], { columns: ["n", "link"] }), part([], { columns: ["n"] })]);
    expect(merged.columns).toEqual(["n", "kind", "link"]);
  });

  it("keep ids apart that two generations use for different columns", () => {
    const merged = mergeIndexes([part([kind([["a", 1]])], { columns: ["kind"] }), part([numbers([0, 1], { id: "c0" })], { columns: ["n"] })]);
    expect(merged.colours.map((c) => c.id)).toEqual(["c0", "c1", "added"]);
    expect(merged.sources.get("c1")).toEqual([null, { id: "c0", codes: null }]);
  });
});

it("generations whose documents have all left are not opened", () => {
  const make = (url: string, documents: number, count: number) => ({ url, documents, removed: { url: "r", count } }) as GenerationEntry;
  const found = withoutEmptyGenerations({ schema: 1, title: "", generations: [make("a/", 5, 5), make("b/", 5, 4), make("c/", 5, 5)] });
  expect([found.generations.map((entry) => entry.url), found.labels]).toEqual([["b/", "c/"], "c/"]);
});

describe("quantiles of several sets", () => {
  const knots = (values: number[]) => {
    const sorted = [...values].sort((a, b) => a - b);
    return Array.from({ length: 65 }, (_, k) => sorted[Math.round((k / 64) * (sorted.length - 1))]);
  };
  it("are those of all values together", () => {
    const a = Array.from({ length: 4000 }, (_, i) => i / 4);
    const b = Array.from({ length: 1000 }, (_, i) => 800 + 3 * i);
    const merged = mergeQuantiles([{ knots: knots(a), weight: 4000 }, { knots: knots(b), weight: 1000 }]);
    const all = [...a, ...b].sort((x, y) => x - y);
    expect(merged).toHaveLength(65);
    for (let k = 0; k <= 64; k++) {
      const share = all.filter((v) => v <= merged[k]).length / all.length;
      expect(Math.abs(share - k / 64)).toBeLessThan(0.02);
      if (k) expect(merged[k]).toBeGreaterThanOrEqual(merged[k - 1]);
    }
    expect([merged[0], merged[64]]).toEqual([0, 3797]);
  });
  it("stand repeated values", () => {
    expect(mergeQuantiles([{ knots: [1, 1, 1, 1, 1], weight: 3 }, { knots: [1, 1, 1, 1, 1], weight: 1 }])).toEqual([1, 1, 1, 1, 1]);
    const merged = mergeQuantiles([{ knots: [0, 0, 0, 0, 8], weight: 1 }, { knots: [8, 8, 8, 8, 8], weight: 1 }]);
    expect([merged[0], merged[4]]).toEqual([0, 8]);
  });
});
