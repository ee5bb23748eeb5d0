/**
 * The time histogram: temporal columns, calendar units for its bars, and conversion between ranges of bars
 * ("stretches") and filters.
 */

import type { ColumnFilter } from "./filters";
import type { CategoryColumn, ColourColumn, NumberColumn } from "./format";

/** Maximum number of bars. */
export const MAX_BARS = 120;
/**
 * If the middle 62 of 64 quantile intervals span less than this share of the range, the histogram is cropped to them at
 * first.
 */
const MIN_BODY_SHARE = 1 / 3;
/** Integers in this range count as years. */
const [FIRST_YEAR, LAST_YEAR] = [1000, 2200];
/** Range of `Date` in days. */
const MAX_DAYS = 100_000_000;

/** A temporal column, in days since 1970 or in years. */
export interface TimeColumn {
  column: ColourColumn;
  unit: "days" | "years";
  low: number;
  high: number;
  /** The range without outliers; [low, high] if there are none. */
  body: readonly [low: number, high: number];
  /** Days or years of a tile value; NaN for no value. */
  timeOf(value: number): number;
}

const isYear = (value: number): boolean => Number.isInteger(value) && value >= FIRST_YEAR && value <= LAST_YEAR;

/** The temporal columns: dates first, then years, which are integers from 1000 to 2200 and may be categories. */
export function timeColumns(columns: readonly ColourColumn[]): TimeColumn[] {
  const found = columns.flatMap((column) => (column.kind === "categories" ? timeFromCategories(column) : timeFromNumbers(column)));
  const rank = ({ unit, column }: TimeColumn) => (unit === "days" ? 0 : /year|jahr|ann[eé]e|anno/i.test(column.name) ? 1 : 2);
  return found.sort((a, b) => rank(a) - rank(b));
}

function timeFromNumbers(column: NumberColumn): TimeColumn[] {
  const { min, max, quantiles, kind } = column;
  if (kind === "numbers" && !(isYear(min) && isYear(max) && min < max && quantiles.filter(Number.isInteger).length > 0.9 * quantiles.length)) return [];
  const clamped = (value: number) => Math.min(MAX_DAYS, Math.max(-MAX_DAYS, value));
  const inner = [clamped(quantiles[1]), clamped(quantiles[quantiles.length - 2])] as const;
  const [low, high] = [clamped(min), clamped(max)];
  const hasOutliers = inner[1] - inner[0] < MIN_BODY_SHARE * (high - low) && inner[1] > inner[0];
  return [{ column, unit: kind === "dates" ? "days" : "years", low, high, body: hasOutliers ? inner : [low, high], timeOf: (value) => value }];
}

/** Integer columns with few distinct values are published as categories. */
function timeFromCategories(column: CategoryColumn): TimeColumn[] {
  const years = column.categories.map(([name]) => (/^\d{4}$/.test(name) ? Number(name) : NaN));
  if (years.length < 2 || column.other[1] || !years.every(isYear)) return [];
  const [low, high] = [Math.min(...years), Math.max(...years)];
  return [{ column, unit: "years", low, high, body: [low, high], timeOf: (code) => years[code] ?? NaN }];
}

/** A calendar unit; `after` gives the start of the next one. */
interface Unit {
  /** Its name, for a bar. */
  name: string;
  /** Approximate length in days or years. */
  length: number;
  floor(time: number): number;
  after(start: number): number;
  /** The text of one unit, and its short form for axis ticks. */
  label(start: number): string;
  tick(start: number): string;
}

const DAY = 86_400_000;
const iso = (days: number): string => new Date(days * DAY).toISOString().replace(/^\+0*/, "");
const formatDate = (days: number, options: Intl.DateTimeFormatOptions): string => new Date(days * DAY).toLocaleDateString("en", { ...options, timeZone: "UTC" });
const monthOf = (days: number): number => {
  const date = new Date(days * DAY);
  return 12 * date.getUTCFullYear() + date.getUTCMonth();
};
/** Not `Date.UTC`, which maps years below 100 to the 1900s. */
const daysOf = (month: number): number => new Date(0).setUTCFullYear(Math.floor(month / 12), ((month % 12) + 12) % 12, 1) / DAY;

function dayUnit(name: string, length: number, offset: number, label: (start: number) => string, tick: (start: number) => string): Unit {
  // Computed from whole unit counts, so that rounding errors of fractional days do not accumulate.
  const at = (k: number) => offset + k * length;
  return { name, length, floor: (time) => at(Math.floor((time - offset) / length)), after: (start) => at(Math.round((start - offset) / length) + 1), label, tick };
}

function monthUnit(name: string, months: number, label: (start: number) => string, tick: (start: number) => string): Unit {
  return {
    name,
    length: 30.436875 * months,
    floor: (time) => daysOf(Math.floor(monthOf(time) / months) * months),
    after: (start) => daysOf(monthOf(start) + months),
    label,
    tick,
  };
}

const clock = (days: number): string => iso(days + 1e-6).slice(0, 16).replace("T", " ");
const yearText = (years: number, year: number): string => (years === 1 ? String(year) : `${year}–${year + years - 1}`);
const yearOf = (days: number): number => Math.floor(monthOf(days) / 12);
const YEAR_SPANS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000];
const spanName = (years: number): string => (years === 1 ? "year" : `${years} years`);

const DAY_UNITS: readonly Unit[] = [
  ...[1, 3, 6, 12].map((hours) => dayUnit(hours === 1 ? "hour" : `${hours} hours`, hours / 24, 0, clock, clock)),
  dayUnit("day", 1, 0, (start) => iso(start).slice(0, 10), (start) => formatDate(start, { day: "numeric", month: "short" })),
  // Offset 4: the first Monday of 1970 was 5 January.
  dayUnit("week", 7, 4, (start) => `${iso(start).slice(0, 10)} to ${iso(start + 6).slice(0, 10)}`, (start) => formatDate(start, { day: "numeric", month: "short" })),
  monthUnit("month", 1, (start) => formatDate(start, { month: "short", year: "numeric" }), (start) => formatDate(start, { month: "short", year: "numeric" })),
  monthUnit("quarter", 3, (start) => `${yearOf(start)} Q${(((monthOf(start) % 12) + 12) % 12) / 3 + 1}`, (start) => formatDate(start, { month: "short", year: "numeric" })),
  ...YEAR_SPANS.map((years) => monthUnit(spanName(years), 12 * years, (start) => yearText(years, yearOf(start)), (start) => String(yearOf(start)))),
];
const YEAR_UNITS: readonly Unit[] = YEAR_SPANS.map((years) =>
  dayUnit(spanName(years), years, 0, (start) => yearText(years, start), String),
);

/** The bars of a histogram: bar `k` covers [edges[k], edges[k + 1]). */
export interface Bars {
  unit: string;
  edges: readonly number[];
  label(k: number): string;
  /** Axis ticks, by relative position from 0 to 1. */
  ticks: readonly { at: number; text: string }[];
}

/** Bars of the finest unit that needs at most `most` of them from `low` to `high`. */
export function barsOf({ unit }: TimeColumn, [low, high]: readonly [number, number], most = MAX_BARS, ticks = 8): Bars {
  const units = unit === "days" ? DAY_UNITS : YEAR_UNITS;
  const fitting = (limit: number) => units.find(({ length }) => (high - low) / length <= limit - 2) ?? units[units.length - 1];
  const chosen = fitting(most);
  const starts = edgesOf(chosen, low, high);
  // Rounded to float32 like tile values, so that values on an edge belong to the bar that begins there.
  const edges = starts.map(Math.fround);
  const [first, last] = [edges[0], edges[edges.length - 1]];
  const larger = fitting(Math.max(3, ticks));
  const coarse = larger.length > chosen.length ? larger : chosen;
  const tickEdges = edgesOf(coarse, low, high).filter((edge) => edge >= first && edge < last);
  const words = tickEdges.map((edge) => ({ at: (edge - first) / (last - first), text: coarse.tick(edge) }));
  // The axis begins with a tick, if there is room.
  if (!words.length || words[0].at > 0.15) words.unshift({ at: 0, text: chosen.tick(starts[0]) });
  return {
    unit: chosen.name,
    edges,
    label: (k) => chosen.label(starts[k]),
    ticks: words,
  };
}

function edgesOf(unit: Unit, low: number, high: number): number[] {
  const edges = [unit.floor(low)];
  while (edges[edges.length - 1] <= high) edges.push(unit.after(edges[edges.length - 1]));
  return edges;
}

/** The bar of a time: -1 before the first, the number of bars after the last, NaN for no value. */
export function barOf(edges: readonly number[], time: number): number {
  if (Number.isNaN(time)) return NaN;
  if (time < edges[0]) return -1;
  let low = 0;
  let high = edges.length - 1;
  if (time >= edges[high]) return high;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (edges[middle] <= time) low = middle;
    else high = middle;
  }
  return low;
}

/** A half-open range of bars. */
export type Stretch = readonly [from: number, to: number];

/** The filter that selects a range of bars; documents without a date do not pass. */
export function filterOf({ column, unit, timeOf }: TimeColumn, edges: readonly number[], [from, to]: Stretch): ColumnFilter {
  const [low, high] = [edges[from], edges[to]];
  if (column.kind === "categories") {
    const inside = column.categories.filter((_, code) => timeOf(code) >= low && timeOf(code) < high);
    return { kind: "categories", names: inside.map(([name]) => `@${name}`) };
  }
  return { kind: "range", from: low, to: unit === "years" ? high - 1 : previousFloat32(high), nulls: false };
}

/** The range of bars that a filter selects; null if it selects none. */
export function stretchOf({ column, timeOf }: TimeColumn, edges: readonly number[], filter: ColumnFilter | undefined): Stretch | null {
  const last = edges.length - 1;
  const clamped = (bar: number) => Math.min(last, Math.max(0, bar));
  if (filter?.kind === "range" && column.kind !== "categories") {
    const [from, to] = [barOf(edges, filter.from), barOf(edges, filter.to)];
    return to < 0 || from >= last ? null : [clamped(from), clamped(to + 1)];
  }
  if (filter?.kind === "categories" && column.kind === "categories") {
    const bars = column.categories.flatMap(([name], code) => (filter.names.includes(`@${name}`) ? [barOf(edges, timeOf(code))] : []));
    return bars.length ? [clamped(Math.min(...bars)), clamped(Math.max(...bars) + 1)] : null;
  }
  return null;
}

/** The largest float32 below a value: tile values are float32. */
function previousFloat32(value: number): number {
  if (value === 0) return -1e-8;
  const [near, bits] = [new Float32Array(1), new Int32Array(1)];
  near[0] = value;
  if (near[0] < value) return near[0];
  bits[0] = new Int32Array(near.buffer)[0] + (value > 0 ? -1 : 1);
  return new Float32Array(bits.buffer)[0];
}

/** The next range of the animation, moved or grown by one bar; null at the end. */
export function nextStretch([from, to]: Stretch, bars: number, grows: boolean): Stretch | null {
  if (to >= bars) return null;
  return [grows ? from : from + 1, to + 1];
}

/** The first range of the animation: the chosen one, or a twelfth of the bars; restarts if it is at the end. */
export function firstStretch(chosen: Stretch | null, bars: number, grows: boolean): Stretch {
  const width = Math.max(1, Math.round(bars / 12));
  if (!chosen) return [0, grows ? 1 : width];
  const [from, to] = chosen;
  if (to < bars) return chosen;
  return grows ? [from === bars - 1 ? 0 : from, Math.min(bars, from === bars - 1 ? 1 : from + 1)] : [0, Math.min(bars, to - from)];
}

/** Documents by bar; `before`, `after` and `none` count those outside the histogram. */
export interface TimeCounts {
  all: Float64Array;
  passing: Float64Array;
  /** Passing documents by series. */
  series: Float64Array[];
  before: number;
  after: number;
  none: number;
}

/**
 * Count documents by bar and series.
 *
 * @param tiles for each: times, masks of documents that are not removed and that pass the other filters, and clusters
 * @param seriesOf the series of a cluster of layer 0, -1 for noise
 */
export function countTimes(
  tiles: Iterable<{ times: ArrayLike<number>; there: Uint8Array; passed: Uint8Array; clusters: ArrayLike<number> }>,
  edges: readonly number[],
  seriesOf: ((cluster: number) => number) | null,
  series: number,
): TimeCounts {
  const bars = edges.length - 1;
  const counts: TimeCounts = {
    all: new Float64Array(bars),
    passing: new Float64Array(bars),
    series: Array.from({ length: series }, () => new Float64Array(bars)),
    before: 0,
    after: 0,
    none: 0,
  };
  for (const { times, there, passed, clusters } of tiles)
    for (let i = 0; i < there.length; i++) {
      if (!there[i]) continue;
      const bar = barOf(edges, times[i]);
      const inside = bar >= 0 && bar < bars;
      if (inside) counts.all[bar] += 1;
      if (!passed[i]) continue;
      if (Number.isNaN(bar)) counts.none += 1;
      else if (bar < 0) counts.before += 1;
      else if (!inside) counts.after += 1;
      else {
        counts.passing[bar] += 1;
        if (seriesOf) counts.series[seriesOf(clusters[i])][bar] += 1;
      }
    }
  return counts;
}
