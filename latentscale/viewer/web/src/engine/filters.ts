/** Filters on columns. A document is shown if it passes all of them. */

import { categoryCodes, colourName, colourFromName } from "./column-names";
import type { ColourColumn } from "./format";

export type ColumnFilter =
  /** `@` and a name, or a code without one: 64 all other values, 255 no value. */
  | { kind: "categories"; names: readonly string[] }
  /** Numbers and dates, inclusive; with `nulls`, documents without a value pass, too. */
  | { kind: "range"; from: number; to: number; nulls: boolean }
  /** A case-insensitive substring, or a regular expression; null matches documents without text. */
  | { kind: "text"; contains: string | null; pattern?: boolean };

/** By `@` and the column's name, as in addresses, or `added`. */
export type Filters = ReadonlyMap<string, ColumnFilter>;

/** The filter key of a colour column. */
export const keyOf = (column: ColourColumn): string => colourName(column.id, [column]);

/** The colour column of a filter key, or null. */
export function columnOf(key: string, columns: readonly ColourColumn[]): ColourColumn | null {
  const id = colourFromName(key, columns);
  return columns.find((column) => column.id === id) ?? null;
}

/** A copy with one filter set, or removed by null. */
export function withFilter(filters: Filters, key: string, filter: ColumnFilter | null): Filters {
  const next = new Map(filters);
  if (filter) next.set(key, filter);
  else next.delete(key);
  return next;
}

/** The predicate of a filter on a column's values. A filter of another kind than the column passes everything. */
export function predicateOf(filter: ColumnFilter, column: ColourColumn): (value: number) => boolean {
  if (filter.kind === "categories" && column.kind === "categories") {
    const codes = new Set(categoryCodes(filter.names, column));
    return (value) => codes.has(value);
  }
  if (filter.kind === "range" && column.kind !== "categories") {
    const { from, to, nulls } = filter;
    // Tile values are float32, and so were the values that an end was taken from.
    const [low, high] = [Math.min(from, Math.fround(from)), Math.max(to, Math.fround(to))];
    return (value) => (Number.isNaN(value) ? nulls : value >= low && value <= high);
  }
  return () => true;
}

/** A filter as written in an address. */
export function writeFilter(filter: ColumnFilter): string {
  if (filter.kind === "categories") return filter.names.map(encodeURIComponent).join(",") || "-";
  if (filter.kind === "text") return filter.contains === null ? "~" : `${filter.pattern ? "*" : "~"}${encodeURIComponent(filter.contains)}`;
  const end = (value: number): string => (Number.isFinite(value) ? String(Number(value.toPrecision(9))) : "");
  return `${end(filter.from)}..${end(filter.to)}${filter.nulls ? ",255" : ""}`;
}

/** Parse a filter; null if it is invalid: addresses are edited by hand. */
export function readFilter(text: string): ColumnFilter | null {
  if (text.startsWith("~")) return { kind: "text", contains: text === "~" ? null : decodeURIComponent(text.slice(1)) };
  if (text.length > 1 && text.startsWith("*")) return { kind: "text", contains: decodeURIComponent(text.slice(1)), pattern: true };
  if (text === "-") return { kind: "categories", names: [] };
  const range = /^(-?[\d.e+-]*)\.\.(-?[\d.e+-]*)(,255)?$/.exec(text);
  if (range) {
    const [from, to] = [range[1] === "" ? -Infinity : Number(range[1]), range[2] === "" ? Infinity : Number(range[2])];
    return Number.isNaN(from) || Number.isNaN(to) ? null : { kind: "range", from, to, nulls: range[3] !== undefined };
  }
  const names = text.split(",").map(decodeURIComponent).filter((name) => name.startsWith("@") || (/^\d{1,3}$/.test(name) && Number(name) <= 255));
  return names.length ? { kind: "categories", names } : null;
}
