/** How large and how opaque points are drawn: by the density of the map, and by zoom; panning never changes them. */

import type { TilePoints } from "./parquet";

/** Side in px of the cells in which neighbours are counted. */
const CELL = 12;
const MAX_CELLS = 1024;
/** Share of the ground that discs cover around the median point: clumps stay clumps, and shades of density show. */
const COVERAGE = 0.8;

/**
 * Points a square pixel around the median point of a tile, drawn with `edge` pixels a side. The median, because
 * layouts are mostly empty ground: an average would make points as large as their clumps.
 */
export function pointDensity({ xy, count, steps }: Pick<TilePoints, "xy" | "count" | "steps">, edge: number): number {
  const cells = Math.max(1, Math.min(MAX_CELLS, Math.ceil(edge / CELL)));
  const counts = new Uint32Array(cells * cells);
  const shift = cells / steps;
  const cellOf = (i: number) => Math.floor(xy[2 * i + 1] * shift) * cells + Math.floor(xy[2 * i] * shift);
  for (let i = 0; i < count; i++) counts[cellOf(i)] += 1;
  const own = new Uint32Array(count);
  for (let i = 0; i < count; i++) own[i] = counts[cellOf(i)];
  own.sort();
  return (own[count >> 1] || 1) / (edge / cells) ** 2;
}

export interface PointStyle {
  /** Diameter in px. */
  size: number;
  opacity: number;
}

/**
 * `density`: points a square pixel in the first view; `points`: how many are drawn there; `window`: its smaller side in px;
 * `steps`: doublings of the scale since.
 */
export function pointStyle(density: number, points: number, window: number, steps: number): PointStyle {
  // However dense its clumps are, a map of few documents is one of dots that can be seen and met by a pointer.
  const least = Math.max(1.3, 3.3 - Math.log10(Math.max(1, points / 10_000))) * Math.min(1, Math.sqrt(window / 800));
  const first = clamp(2 * Math.sqrt(COVERAGE / (Math.PI * density)), least, 6.5);
  const size = clamp(first * 2 ** (0.4 * steps), 1.3, 10);
  const coverage = (density * 4 ** -Math.max(0, steps) * Math.PI * size * size) / 4;
  // Where discs must overlap, they let more through.
  return { size, opacity: clamp(0.75 * (COVERAGE / coverage) ** 0.3, 0.36, 0.86) };
}

const clamp = (v: number, low: number, high: number): number => Math.min(high, Math.max(low, v));
