import { describe, expect, it } from "vitest";
import { BINS, binOf, countBins, countClusters, countCodes, conditionMask, type Base } from "../src/engine/crossfilter";
import { countSelectedIn, shareOf, sharesByCode, shiftOf, evenSample, significant } from "../src/engine/distinctive";
import type { NumberColumn } from "../src/engine/format";
import { REMOVED, type LoadedTile } from "../src/engine/generation";
import { rangesOf } from "../src/engine/selection";

const count = 1000;
const cluster = Int32Array.from({ length: count }, (_, i) => (i % 50 === 0 ? REMOVED : (i % 5) - 1));
const tile = { generation: { number: 0 }, info: { first: 200 }, count, cluster } as unknown as LoadedTile;
const here = Array.from({ length: count }, (_, i) => i).filter((i) => i % 50);
const base: Base = { tiles: [tile], documents: here.length, whole: true };
const codes = Float32Array.from({ length: count }, (_, i) => (i % 7 === 0 ? 255 : i % 3));
const numbers = Float32Array.from({ length: count }, (_, i) => (i % 9 === 0 ? NaN : i));
const column: NumberColumn = { id: "c1", name: "n", kind: "numbers", min: 0, max: count - 1, quantiles: Array.from({ length: 65 }, (_, k) => ((count - 1) * k) / 64), nulls: 112 };

describe("counts under filters", () => {
  const even = { name: "@even", of: () => Uint8Array.from({ length: count }, (_, i) => (i % 2 ? 0 : 1)) };
  const low = { name: "@n", of: () => Uint8Array.from({ length: count }, (_, i) => (i < 400 ? 1 : 0)) };

  it("are of what passes all others, and what has left the map counts for nothing", () => {
    const passed = conditionMask(tile, [even, low]);
    expect(here.filter((i) => passed[i])).toEqual(here.filter((i) => i % 2 === 0 && i < 400));
    const but = (name?: string) => () => conditionMask(tile, [even, low], name);
    const counted = countCodes(base, but("@n"), () => codes);
    for (const code of [0, 1, 2, 255]) expect(counted[code]).toBe(here.filter((i) => i % 2 === 0 && codes[i] === code).length);
    const bins = countBins(base, but("@n"), () => numbers, column, "linear");
    expect(bins[BINS]).toBe(here.filter((i) => i % 2 === 0 && i % 9 === 0).length);
    expect(bins.reduce((sum, n) => sum + n)).toBe(here.filter((i) => i % 2 === 0).length);
    expect(countClusters(base, but())).toEqual(
      new Map([...new Set(here.filter((i) => passed[i]).map((i) => cluster[i]))].map((id) => [id, here.filter((i) => passed[i] && cluster[i] === id).length])),
    );
  });

  it("put the least and the largest value into the first and the last bar", () => {
    expect([binOf(0, column, "linear"), binOf(count - 1, column, "quantile"), binOf(-5, column, "linear"), binOf(NaN, column, "linear")]).toEqual([0, BINS - 1, 0, BINS]);
  });
});

describe("what sets a selection apart", () => {
  const selection = new Map([[0, rangesOf(here.filter((i) => i >= 700).map((i) => 200 + i))]]);
  const selected = here.filter((i) => i >= 700);

  it("is counted in it and in all", () => {
    expect(countSelectedIn(base, selection)).toBe(selected.length);
    const found = sharesByCode(base, selection, () => codes, (code) => (code === 255 ? null : `kind ${code}`));
    expect(found.map(({ name }) => name).sort()).toEqual(["kind 0", "kind 1", "kind 2"]);
    const one = found.find(({ name }) => name === "kind 1")!;
    expect([one.inside, one.all]).toEqual([selected.filter((i) => codes[i] === 1).length, here.filter((i) => codes[i] === 1).length]);
    expect(one.lift).toBeCloseTo(one.inside / selected.length / (one.all / here.length));
    expect(significant(found)).toEqual([]);
  });

  it("has as evidence the log-likelihood ratio of a table of two by two", () => {
    // By hand: 30 of 100 against 10 of 900.
    const terms = [[30, 100 * 40], [70, 100 * 960], [10, 900 * 40], [890, 900 * 960]].map(([n, e]) => n * Math.log((n * 1000) / e));
    const { evidence, lift } = shareOf("x", 30, 100, 40, 1000);
    expect(evidence).toBeCloseTo(2 * terms.reduce((sum, term) => sum + term), 6);
    expect(lift).toBeCloseTo(7.5);
    expect(shareOf("even", 10, 100, 100, 1000).evidence).toBeCloseTo(0, 6);
    expect(shareOf("none", 0, 100, 50, 1000).lift).toBe(0);
    expect(significant([shareOf("a", 30, 100, 40, 1000), shareOf("b", 60, 100, 70, 1000), shareOf("c", 11, 100, 100, 1000)]).map(({ name }) => name)).toEqual(["b", "a"]);
  });

  it("tells how often its values are the larger ones, ties by halves", () => {
    const found = shiftOf(base, selection, column, () => numbers)!;
    expect(found.larger).toBe(1);
    expect(found.medianInside).toBeGreaterThan(found.medianOutside);
    expect(shiftOf(base, selection, column, () => new Float32Array(count).fill(3))!.larger).toBe(0.5);
    expect(shiftOf(base, selection, column, () => new Float32Array(count).fill(NaN))).toBeNull();
    const brute = here.filter((i) => i % 9 && i < 700);
    const odd = Float32Array.from(numbers, (value) => value % 10);
    const inside = selected.filter((i) => i % 9);
    const wins = inside.flatMap((i) => brute.map((k) => (odd[i] > odd[k] ? 1 : odd[i] === odd[k] ? 0.5 : 0)));
    expect(shiftOf(base, selection, column, () => odd)!.larger).toBeCloseTo(wins.reduce<number>((sum, win) => sum + win, 0) / wins.length, 9);
  });

  it("is told from texts that are spread over all of it", () => {
    const parts = new Map([[0, [0, 10, 100, 190]], [3, [5, 105]]]);
    const rows = evenSample(parts, [{ number: 0 }, { number: 3 }], 20);
    expect(rows.map(({ generation, position }) => `${generation.number}/${position}`)).toEqual([
      ...[0].map((p) => `0/${p}`),
      ...Array.from({ length: 9 }, (_, k) => `0/${100 + 10 * k}`),
      ...Array.from({ length: 10 }, (_, k) => `3/${5 + 10 * k}`),
    ]);
    expect(evenSample(parts, [{ number: 0 }, { number: 3 }], 1000)).toHaveLength(200);
  });
});
