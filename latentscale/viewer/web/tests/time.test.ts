import { describe, expect, it } from "vitest";
import { predicateOf as testOf, readFilter, writeFilter } from "../src/engine/filters";
import type { CategoryColumn, ColourColumn, NumberColumn } from "../src/engine/format";
import { barOf, barsOf, firstStretch, countTimes, filterOf, nextStretch, stretchOf, timeColumns, type TimeColumn } from "../src/engine/time";

const day = (text: string): number => Date.parse(text.includes("T") ? `${text}Z` : text) / 86_400_000;
const knots = (min: number, max: number): number[] => Array.from({ length: 65 }, (_, k) => min + ((max - min) * k) / 64);
const dates = (from: string, to: string, quantiles = knots(day(from), day(to))): NumberColumn => ({
  id: "c0", name: "written", kind: "dates", min: day(from), max: day(to), quantiles, nulls: 0,
});
const numbers = (name: string, min: number, max: number): NumberColumn => ({
  id: "c1", name, kind: "numbers", min, max, quantiles: knots(min, max).map(Math.round), nulls: 0,
});
const years: CategoryColumn = { id: "c2", name: "year", kind: "categories", categories: [["2021", 5], ["2019", 3], ["2020", 2]], other: [0, 0], nulls: 1 };
const only = (column: ColourColumn): TimeColumn => timeColumns([column])[0];

describe("columns of time", () => {
  it("are those of dates first, then years, also as categories", () => {
    const plain: CategoryColumn = { ...years, name: "kind", categories: [["2021", 1], ["no", 2]] };
    const found = timeColumns([plain, numbers("size", 3, 900), numbers("built", 1850, 2020), years, dates("2020-01-01", "2021-01-01")]);
    expect(found.map(({ column, unit }) => [column.name, unit])).toEqual([["written", "days"], ["year", "years"], ["built", "years"]]);
    expect([0, 1, 255].map(found[1].timeOf)).toEqual([2021, 2019, NaN]);
  });

  it("show where all but strays lie", () => {
    const quantiles = knots(day("2020-01-01"), day("2021-01-01"));
    quantiles[0] = day("1970-01-01");
    const { body, low } = only(dates("1970-01-01", "2021-01-01", quantiles));
    expect([low, body[0]]).toEqual([0, quantiles[1]]);
  });
});

describe("bars", () => {
  it("are the finest units of the calendar that there is room for, and begin where these do", () => {
    const of = (from: string, to: string) => {
      const time = only(dates(from, to));
      return barsOf(time, time.body);
    };
    const units = [["2020-03-01T05:10", "2020-03-02"], ["2020-02-10", "2020-05-02"], ["2020-02-12", "2021-11-05"], ["2015-02-10", "2021-03-05"], ["1995-02-10", "2021-03-05"], ["1950-01-01", "2021-03-05"], ["0003-01-01", "2021-03-05"]];
    expect(units.map(([from, to]) => of(from, to).unit)).toEqual(["hour", "day", "week", "month", "quarter", "year", "20 years"]);
    const months = of("2015-02-10", "2021-03-05");
    expect([months.edges[0], months.edges[1], months.edges.at(-1)]).toEqual([day("2015-02-01"), day("2015-03-01"), day("2021-04-01")]);
    expect([months.label(0), of("1995-02-10", "2021-03-05").label(1), of("1950-01-01", "2021-03-05").label(0)]).toEqual(["Feb 2015", "1995 Q2", "1950"]);
    const weeks = of("2020-02-12", "2021-11-05");
    expect(weeks.label(0)).toBe("2020-02-10 to 2020-02-16");
    const long = of("0003-01-01", "2021-03-05");
    expect([long.label(0), long.edges.length]).toEqual(["0–19", 103]);
    for (const [from, to] of units) {
      const { edges, ticks } = of(from, to);
      expect(edges[0]).toBeLessThanOrEqual(day(from));
      expect(edges.at(-1)).toBeGreaterThan(day(to));
      expect(edges.length).toBeLessThanOrEqual(121);
      expect(ticks.length).toBeGreaterThan(1);
      expect(ticks.length).toBeLessThan(11);
    }
    const one = of("2020-02-10", "2020-02-10");
    expect(one.edges.length).toBe(2);
  });

  it("are years for whole numbers", () => {
    const time = only(numbers("built", 1850, 2020));
    const { edges, unit, label: said } = barsOf(time, time.body);
    expect([unit, edges[0], said(0), barOf(edges, 1851), barOf(edges, 1852)]).toEqual(["2 years", 1850, "1850–1851", 0, 1]);
    expect([barOf(edges, 1700), barOf(edges, 2022), barOf(edges, NaN)]).toEqual([-1, edges.length - 1, NaN]);
  });
});

describe("a stretch", () => {
  it("is a filter that passes what lies in it and no more, through an address too", () => {
    for (const column of [dates("2015-02-10", "2021-03-05"), dates("1969-06-01", "1970-06-01"), dates("2020-03-01T05:10", "2020-03-02")]) {
      const time = only(column);
      const { edges } = barsOf(time, time.body);
      for (let from = 0; from < edges.length - 1; from += 3) {
        const to = Math.min(edges.length - 1, from + 2);
        const filter = filterOf(time, edges, [from, to]);
        expect(stretchOf(time, edges, readFilter(writeFilter(filter))!)).toEqual([from, to]);
        const passes = testOf(readFilter(writeFilter(filter))!, column);
        const second = 1 / 86_400;
        for (const at of [edges[from], edges[to - 1], edges[to] - 400 * second]) expect(passes(Math.fround(at)), `${at} of ${edges[from]} to ${edges[to]}`).toBe(true);
        for (const at of [edges[from] - 400 * second, edges[to], NaN]) expect(passes(Math.fround(at)), `${at}`).toBe(false);
      }
    }
  });

  it("of categories is their names", () => {
    const time = only(years);
    const { edges } = barsOf(time, time.body);
    const filter = filterOf(time, edges, [0, 2]);
    expect(filter).toEqual({ kind: "categories", names: ["@2019", "@2020"] });
    expect(stretchOf(time, edges, filter)).toEqual([0, 2]);
    expect(stretchOf(time, edges, { kind: "categories", names: [] })).toBeNull();
  });

  it("of years ends with a whole one", () => {
    const time = only(numbers("built", 1950, 2020));
    const { edges } = barsOf(time, time.body);
    expect(filterOf(time, edges, [10, 20])).toEqual({ kind: "range", from: 1960, to: 1969, nulls: false });
    expect(stretchOf(time, edges, { kind: "range", from: -Infinity, to: 1955, nulls: true })).toEqual([0, 6]);
    expect(stretchOf(time, edges, { kind: "range", from: 1, to: 5, nulls: true })).toBeNull();
  });

  it("moves on or grows, and begins again at the end", () => {
    expect([nextStretch([2, 5], 10, false), nextStretch([2, 5], 10, true), nextStretch([7, 10], 10, false)]).toEqual([[3, 6], [2, 6], null]);
    expect([firstStretch(null, 36, false), firstStretch(null, 36, true), firstStretch([7, 10], 10, false), firstStretch([3, 10], 10, true), firstStretch([3, 5], 10, true)]).toEqual([[0, 3], [0, 1], [0, 3], [3, 4], [3, 5]]);
    expect(firstStretch([9, 10], 10, true)).toEqual([0, 1]);
  });
});

it("documents are counted by bar and series, those that the strip does not show apart", () => {
  const tile = {
    times: [1, 2, 2.5, 3, 0, 9, NaN, 2],
    there: Uint8Array.from([1, 1, 1, 1, 1, 1, 1, 0]),
    passed: Uint8Array.from([1, 1, 0, 1, 1, 1, 1, 0]),
    clusters: [-1, 4, 4, 5, 4, 4, 4, 4],
  };
  const counts = countTimes([tile, tile], [1, 2, 3, 4], (cluster) => (cluster === 4 ? 0 : 1), 2);
  expect([...counts.all]).toEqual([2, 4, 2]);
  expect([...counts.passing]).toEqual([2, 2, 2]);
  expect(counts.series.map((one) => [...one])).toEqual([[0, 2, 0], [2, 0, 2]]);
  expect([counts.before, counts.after, counts.none]).toEqual([2, 2, 2]);
});
