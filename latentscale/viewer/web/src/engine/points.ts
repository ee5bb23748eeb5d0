/** Size and opacity of points by the map's density and the zoom; panning never changes them. */

import type { TilePoints } from "./parquet";

/** Side in px of the cells in which points are counted. */
const CELL = 12;
const MAX_CELLS = 1024;
/**
 * Share of the area around the median point that discs cover: clusters stay visible, and so do differences in density.
 */
const COVERAGE = 0.8;

/**
 * Points per square pixel around the median point of a tile drawn with `edge` px per side. The median, because layouts
 * are mostly empty: a mean would make points as large as their clusters.
 */
export function pointDensity({ xy, count, steps }: Pick<TilePoints, "xy" | "count" | "steps">, edge: number): number {
  const cells = Math.max(1, Math.min(MAX_CELLS, Math.ceil(edge / CELL)));
  const counts = new Uint32Array(cells * cells);
  const shift = cells / steps;
  const cellOf = (i: number) => Math.floor(xy[2 * i + 1] * shift) * cells + Math.floor(xy[2 * i] * shift);
  for (let i = 0; i < count; i++) counts[cellOf(i)] += 1;
  const neighbours = new Uint32Array(count);
  for (let i = 0; i < count; i++) neighbours[i] = counts[cellOf(i)];
  neighbours.sort();
  return (neighbours[count >> 1] || 1) / (edge / cells) ** 2;
}

export interface PointStyle {
  /** Diameter in px. */
  size: number;
  opacity: number;
}

/**
 * The style of points. `density`: points per square pixel in the initial view; `points`: number drawn there; `window`:
 * its smaller side in px; `steps`: log2 of the scale relative to it.
 */
export function pointStyle(density: number, points: number, window: number, steps: number): PointStyle {
  // On a map of few documents single points must stay visible and clickable, however dense its clusters are.
  const least = Math.max(1.3, 3.3 - Math.log10(Math.max(1, points / 10_000))) * Math.min(1, Math.sqrt(window / 800));
  const initialSize = clamp(2 * Math.sqrt(COVERAGE / (Math.PI * density)), least, 6.5);
  const size = clamp(initialSize * 2 ** (0.4 * steps), 1.3, 10);
  const coverage = (density * 4 ** -Math.max(0, steps) * Math.PI * size * size) / 4;
  // More transparent where discs overlap.
  return { size, opacity: clamp(0.75 * (COVERAGE / coverage) ** 0.3, 0.36, 0.86) };
}

const clamp = (v: number, low: number, high: number): number => Math.min(high, Math.max(low, v));
