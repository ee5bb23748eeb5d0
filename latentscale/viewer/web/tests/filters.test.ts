import { describe, expect, it } from "vitest";
import { readAddress, writeAddress } from "../src/engine/address";
import { columnOf, keyOf, readFilter, predicateOf as passes, withFilter, writeFilter, type ColumnFilter } from "../src/engine/filters";
import type { ColourColumn } from "../src/engine/format";

const kind: ColourColumn = { id: "c4", name: "kind, of=a&b", kind: "categories", categories: [["a, b", 3], ["", 2]], other: [3, 9], nulls: 1 };
const score: ColourColumn = { id: "c7", name: "score", kind: "numbers", min: 0, max: 1, quantiles: [0, 1], nulls: 4 };

describe("filters", () => {
  it.each<ColumnFilter>([
    { kind: "categories", names: ["@a, b", "@", "64", "255"] },
    { kind: "categories", names: [] },
    { kind: "range", from: -0.5, to: 12345.25, nulls: false },
    { kind: "range", from: -Infinity, to: 1e-7, nulls: true },
    { kind: "range", from: 3, to: Infinity, nulls: true },
    { kind: "text", contains: "50 % & ~more" },
    { kind: "text", contains: "*" },
    { kind: "text", contains: "^a{1,2}&%(b|c)$", pattern: true },
    { kind: "text", contains: null },
  ])("survive the address: %o", (filter) => {
    expect(readFilter(writeFilter(filter))).toEqual(filter);
    const filters = withFilter(withFilter(new Map(), keyOf(kind), filter), "added", { kind: "categories", names: ["2"] });
    expect(readAddress(writeAddress({ filters, pinned: 3 }))).toEqual({ filters, pinned: 3 });
  });

  it("of an address that is none are left out", () => {
    expect([readFilter(""), readFilter("a..b"), readFilter("900"), readFilter("1e..2")].every((one) => one === null)).toBe(true);
    expect(readAddress("#f.kind=1&f.@a=%E0%A4%A&f.@b=x&p=1")).toEqual({ pinned: 1 });
  });

  it("go by the names of columns and categories", () => {
    expect(columnOf(keyOf(kind), [score, kind])).toBe(kind);
    expect(columnOf("@none", [score, kind])).toBeNull();
    const chosen = passes({ kind: "categories", names: ["@", "255", "@gone"] }, kind);
    expect([0, 1, 64, 255].map(chosen)).toEqual([false, true, false, true]);
  });

  it("let both ends pass, and no value only where that is said", () => {
    const within = (nulls: boolean) => passes({ kind: "range", from: 0.1, to: 0.7, nulls }, score);
    const values = [Math.fround(0.1), 0.4, Math.fround(0.7), 0.71, NaN];
    expect(values.map(within(false))).toEqual([true, true, true, false, false]);
    expect(within(true)(NaN)).toBe(true);
  });

  it("of another kind than the column has now let all pass", () => {
    expect(passes({ kind: "range", from: 1, to: 2, nulls: false }, kind)(0)).toBe(true);
  });
});
