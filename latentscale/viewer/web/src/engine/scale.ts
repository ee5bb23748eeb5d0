/** Colour scales of numeric columns: palette indices and legend values. */

import type { NumberColumn } from "./format";

export type ScaleKind = "linear" | "quantile";

/** Palette indices: 0–254 on the ramp, 255 for missing values. */
export const RAMP = 255;
export const NO_VALUE = 255;

/** Position of a value on a colour scale: 0 to 1 within the column's range, NaN for no value. */
export function position(value: number, column: NumberColumn, kind: ScaleKind): number {
  if (!Number.isFinite(value)) return NaN;
  if (kind === "linear") return column.max > column.min ? (value - column.min) / (column.max - column.min) : 0.5;
  const knots = column.quantiles;
  let low = 0;
  let high = knots.length - 1;
  if (value <= knots[low]) return 0;
  if (value >= knots[high]) return 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (knots[middle] <= value) low = middle;
    else high = middle;
  }
  const width = knots[high] - knots[low];
  return (low + (width > 0 ? (value - knots[low]) / width : 0)) / (knots.length - 1);
}

/** Palette index of a value. */
export function shadeIndex(value: number, column: NumberColumn, kind: ScaleKind): number {
  const t = position(value, column, kind);
  return Number.isNaN(t) ? NO_VALUE : Math.min(RAMP - 1, Math.max(0, Math.round(t * (RAMP - 1))));
}

/** Long-tailed columns would be a single colour on a linear scale: use quantiles. */
export function betterScale(column: NumberColumn): ScaleKind {
  const knots = column.quantiles;
  const middle = knots[Math.floor(knots.length * 0.9)] - knots[Math.floor(knots.length * 0.1)];
  return middle < 0.25 * (column.max - column.min) ? "quantile" : "linear";
}

/** The value at a position on the ramp, from 0 to 1. */
export function valueAt(t: number, column: NumberColumn, kind: ScaleKind): number {
  if (kind === "linear") return column.min + t * (column.max - column.min);
  const at = t * (column.quantiles.length - 1);
  const low = Math.floor(at);
  const high = Math.min(column.quantiles.length - 1, low + 1);
  return column.quantiles[low] + (at - low) * (column.quantiles[high] - column.quantiles[low]);
}

/** A value as text; dates are given in days since 1970. */
export function formatValue(value: number, column: NumberColumn): string {
  if (column.kind === "dates") {
    const text = new Date(value * 86_400_000).toISOString();
    return column.max - column.min < 3 ? text.slice(0, 16).replace("T", " ") : text.slice(0, 10);
  }
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e7) return value.toLocaleString("en", { useGrouping: size >= 10_000 });
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toPrecision(3);
  return value.toLocaleString("en", { maximumSignificantDigits: 4, useGrouping: size >= 10_000 });
}
