/** How large points are by a column of numbers: their area grows evenly with the value, or with its logarithm. */

import type { NumberColumn } from "./format";

/** Factors of the diameter at the smallest value, which those without one have too, and at the largest. */
export const LEAST = 0.6;
export const MOST = 2.8;
/** Of the smallest value that is not 0 the largest is so many times: a linear scale would show but a few points. */
const WIDE = 100;

/** What is added to a value before its logarithm is taken; null where the scale is linear. */
function added({ min, max, quantiles }: NumberColumn): number | null {
  const least = min > 0 ? min : (quantiles.find((knot) => knot > 0) ?? max);
  if (min < 0 || !(least > 0) || max / least < WIDE) return null;
  return min > 0 ? 0 : least;
}

export const isLogarithmic = (column: NumberColumn): boolean => added(column) !== null;

/** The factor of a point's diameter; of no value the smallest. */
export function growthBy(column: NumberColumn): (value: number) => number {
  const plus = added(column);
  const at = (value: number): number => (plus === null ? value : Math.log(value + plus));
  const [low, high] = [at(column.min), at(column.max)];
  return (value) => {
    if (!Number.isFinite(value)) return LEAST;
    const t = high > low ? Math.min(1, Math.max(0, (at(value) - low) / (high - low))) : 0.5;
    return Math.sqrt(LEAST ** 2 + t * (MOST ** 2 - LEAST ** 2));
  };
}

/** The value at the middle of the scale. */
export function middleOf(column: NumberColumn): number {
  const plus = added(column);
  return plus === null ? (column.min + column.max) / 2 : Math.sqrt((column.min + plus) * (column.max + plus)) - plus;
}
