/**
 * Outlines of point sets as density contours, one per island; a single convex hull would cover the gaps between
 * islands.
 */

import type { Box } from "./lod";
import { boundsOf, contains } from "./shape";

/** Grid cells along the longer side of the points' box, and margin around it in cells. */
const CELLS = 56;
const MARGIN = 4;
/** Radius in cells of the box blur, which is applied twice. */
const BLUR_RADIUS = 1;
/** Minimum number of points for a density estimate. */
export const MIN_POINTS = 12;
/** Share of the points, the most isolated ones, that may lie outside. */
const OUTLIER_SHARE = 0.04;

/**
 * Grid cells along the longer side for density contours of the map, and the share of points outside of each contour.
 */
const CONTOUR_CELLS = 144;
const LEVELS = [0.25, 0.5, 0.7, 0.85, 0.95];

/**
 * Closed outlines around `points` (x0, y0, x1, y1, …), each in the same form, in no particular order. Holes are rings,
 * too: fill with the even-odd rule. Empty for fewer than `MIN_POINTS` points, or if all coincide.
 */
export function outlinesOf(points: ArrayLike<number>): number[][] {
  const rings = outlinesOnGrid(points);
  const islands = rings.filter((ring) => !isHole(ring));
  // The grid is too coarse for islands that are far apart: refine each.
  return islands.length < 2 ? rings : islands.flatMap((ring) => refineIsland(ring, points) ?? [ring]);
}

/** Whether a ring is a hole: contours keep higher values on one side, so holes have the opposite orientation. */
function isHole(ring: readonly number[]): boolean {
  let area = 0;
  for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) area += ring[j] * ring[i + 1] - ring[i] * ring[j + 1];
  return area < 0;
}

function outlinesOnGrid(points: ArrayLike<number>): number[][] {
  const grid = gridOf(points, boundsOf(points), CELLS);
  if (!grid) return [];
  // Half the lowest density to be included, so that the outline keeps a distance from its points.
  return contoursAt(grid, grid.sorted[Math.floor(OUTLIER_SHARE * grid.sorted.length)] / 2);
}

/** Recompute the outline of an island, with its holes, on a grid of its own; null for too few points. */
function refineIsland(ring: readonly number[], points: ArrayLike<number>): number[][] | null {
  const { x0, x1, y0, y1 } = boundsOf(ring);
  const inside: number[] = [];
  for (let i = 0; i < points.length; i += 2) {
    const [x, y] = [points[i], points[i + 1]];
    if (x >= x0 && x <= x1 && y >= y0 && y <= y1 && contains(ring, x, y)) inside.push(x, y);
  }
  const found = outlinesOnGrid(inside);
  return found.length ? found : null;
}

/** Closed density contours of the points in a box, from sparse to dense, in map units. */
export function densityContours(points: ArrayLike<number>, box: Box): number[][] {
  const grid = gridOf(points, box, CONTOUR_CELLS);
  if (!grid) return [];
  const levels = new Set(LEVELS.map((part) => grid.sorted[Math.floor(part * grid.sorted.length)]));
  return [...levels].flatMap((level) => contoursAt(grid, level));
}

interface Grid {
  density: Float64Array;
  width: number;
  height: number;
  /** Densities at the points, sorted. */
  sorted: Float64Array;
  /** From grid to map coordinates. */
  x(cells: number): number;
  y(cells: number): number;
}

/** Blurred histogram of the points in a box, with a margin; null for too few points, or if all coincide. */
function gridOf(points: ArrayLike<number>, { x0, y0, x1, y1 }: Box, cells: number): Grid | null {
  const cell = Math.max(x1 - x0, y1 - y0) / cells;
  if (!(cell > 0) || !Number.isFinite(cell)) return null;
  const width = Math.ceil((x1 - x0) / cell) + 2 * MARGIN + 1;
  const height = Math.ceil((y1 - y0) / cell) + 2 * MARGIN + 1;
  const places: number[] = [];
  for (let i = 0; i < points.length; i += 2) {
    const [x, y] = [points[i], points[i + 1]];
    if (x >= x0 && x <= x1 && y >= y0 && y <= y1)
      places.push(Math.floor((y - y0) / cell + MARGIN) * width + Math.floor((x - x0) / cell + MARGIN));
  }
  if (places.length < MIN_POINTS) return null;
  let density = new Float64Array(width * height);
  for (const at of places) density[at] += 1;
  for (let pass = 0; pass < 2; pass++) {
    density = boxBlur(density, width, height, 1, width);
    density = boxBlur(density, width, height, width, 1);
  }
  const sorted = Float64Array.from(places, (at) => density[at]).sort();
  return { density, width, height, sorted, x: (v) => x0 + (v - MARGIN + 0.5) * cell, y: (v) => y0 + (v - MARGIN + 0.5) * cell };
}

const contoursAt = ({ density, width, height, x, y }: Grid, level: number): number[][] =>
  contours(density, width, height, level).map((ring) => ring.map((v, i) => (i % 2 ? y(v) : x(v))));

/** Box blur along one axis: `step` is the stride along it, `other` between lines. */
function boxBlur(values: Float64Array, width: number, height: number, step: number, other: number): Float64Array<ArrayBuffer> {
  const [length, lines] = step === 1 ? [width, height] : [height, width];
  const sums = new Float64Array(values.length);
  for (let line = 0; line < lines; line++)
    for (let i = 0; i < length; i++)
      for (let j = Math.max(0, i - BLUR_RADIUS); j <= Math.min(length - 1, i + BLUR_RADIUS); j++)
        sums[line * other + i * step] += values[line * other + j * step];
  return sums;
}

/** Marching squares: rings around the area above `level`, in cell units. The border of the grid must be below it. */
function contours(values: Float64Array, width: number, height: number, level: number): number[][] {
  // A crossing is identified by its edge: right of a cell (2 × index) or below it (2 × index + 1), and maps to the
  // next.
  const next = new Map<number, number>();
  for (let y = 0; y + 1 < height; y++)
    for (let x = 0; x + 1 < width; x++) {
      const a = y * width + x;
      const [top, left, bottom, right] = [2 * a, 2 * a + 1, 2 * (a + width), 2 * (a + 1) + 1];
      const inside = [a, a + 1, a + width + 1, a + width].map((at) => values[at] > level);
      const edges = [top, right, bottom, left];
      // Walk around the corners: the ring enters where they leave the area, and exits where they entered it.
      let entered = -1;
      for (let i = 0; i < 8; i++) {
        const [from, to] = [inside[i % 4], inside[(i + 1) % 4]];
        if (!from && to) entered = edges[i % 4];
        else if (from && !to && entered >= 0) {
          next.set(edges[i % 4], entered);
          entered = -1;
        }
      }
    }
  const rings: number[][] = [];
  for (const start of next.keys()) {
    if (!next.has(start)) continue;
    const ring: number[] = [];
    for (let at: number | undefined = start; at !== undefined; ) {
      const cell = at >> 1;
      const other = at % 2 ? cell + width : cell + 1;
      const part = (level - values[cell]) / (values[other] - values[cell]);
      ring.push((cell % width) + (at % 2 ? 0 : part), Math.floor(cell / width) + (at % 2 ? part : 0));
      const following: number | undefined = next.get(at);
      next.delete(at);
      at = following === start ? undefined : following;
    }
    rings.push(ring);
  }
  return rings;
}
