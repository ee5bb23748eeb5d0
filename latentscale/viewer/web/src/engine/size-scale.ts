/** Scale from a numeric column to point size: the area grows linearly with the value or its logarithm. */

import type { NumberColumn } from "./format";

/** Diameter factors at the smallest value (also used for missing values) and at the largest. */
export const MIN_FACTOR = 0.6;
export const MAX_FACTOR = 2.8;
/**
 * From this ratio of largest to smallest positive value the scale is logarithmic: a linear one would show only a few
 * points.
 */
const LOG_RATIO = 100;

/** Offset added before taking the logarithm; null if the scale is linear. */
function logOffset({ min, max, quantiles }: NumberColumn): number | null {
  const least = min > 0 ? min : (quantiles.find((knot) => knot > 0) ?? max);
  if (min < 0 || !(least > 0) || max / least < LOG_RATIO) return null;
  return min > 0 ? 0 : least;
}

export const isLogarithmic = (column: NumberColumn): boolean => logOffset(column) !== null;

/** Diameter factor by value; missing values get the smallest. */
export function sizeFactorOf(column: NumberColumn): (value: number) => number {
  const offset = logOffset(column);
  const transform = (value: number): number => (offset === null ? value : Math.log(value + offset));
  const [low, high] = [transform(column.min), transform(column.max)];
  return (value) => {
    if (!Number.isFinite(value)) return MIN_FACTOR;
    const t = high > low ? Math.min(1, Math.max(0, (transform(value) - low) / (high - low))) : 0.5;
    return Math.sqrt(MIN_FACTOR ** 2 + t * (MAX_FACTOR ** 2 - MIN_FACTOR ** 2));
  };
}

/** The value in the middle of the scale. */
export function scaleMiddle(column: NumberColumn): number {
  const offset = logOffset(column);
  return offset === null ? (column.min + column.max) / 2 : Math.sqrt((column.min + offset) * (column.max + offset)) - offset;
}
