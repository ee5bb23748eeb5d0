/**
 * Outlines of where points lie, one around each island: contours of their density, where one hull around all of them would
 * take in what lies between.
 */

import type { Box } from "./lod";
import { boundsOf, contains } from "./shape";

/** Cells along the longer side of the points' box, and the cells of air around it. */
const CELLS = 56;
const MARGIN = 4;
/** Cells to each side over which a point is spread, twice. */
const BLUR_RADIUS = 1;
/** Fewer points than this have no density to speak of. */
export const MIN_POINTS = 12;
/** Part of the points that may lie outside: those far from all others. */
const OUTLIER_SHARE = 0.04;

/** Cells along the longer side of a map whose density is drawn in contours, and the parts of its points outside of each. */
const CONTOUR_CELLS = 144;
const LEVELS = [0.25, 0.5, 0.7, 0.85, 0.95];

/**
 * Closed outlines around `points` (x0, y0, x1, y1, …), each in the same form, in no order; holes are outlines too, to be
 * filled by the even-odd rule. Empty for fewer than `LEAST_POINTS` points, or where all lie at one place.
 */
export function outlinesOf(points: ArrayLike<number>): number[][] {
  const rings = outlinesOnGrid(points);
  const islands = rings.filter((ring) => !isHole(ring));
  // Cells that are right for islands far from each other are too wide for each of them.
  return islands.length < 2 ? rings : islands.flatMap((ring) => refineIsland(ring, points) ?? [ring]);
}

/** Contours have what is above their level on one side: a hole goes around the other way. */
function isHole(ring: readonly number[]): boolean {
  let area = 0;
  for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) area += ring[j] * ring[i + 1] - ring[i] * ring[j + 1];
  return area < 0;
}

function outlinesOnGrid(points: ArrayLike<number>): number[][] {
  const grid = gridOf(points, boundsOf(points), CELLS);
  if (!grid) return [];
  // Half of what the thinnest place has that is to lie inside, so that the outline keeps clear of its points.
  return contoursAt(grid, grid.sorted[Math.floor(OUTLIER_SHARE * grid.sorted.length)] / 2);
}

/** The outline of an island again, from its own points alone; with its holes; null where they are too few. */
function refineIsland(ring: readonly number[], points: ArrayLike<number>): number[][] | null {
  const { x0, x1, y0, y1 } = boundsOf(ring);
  const own: number[] = [];
  for (let i = 0; i < points.length; i += 2) {
    const [x, y] = [points[i], points[i + 1]];
    if (x >= x0 && x <= x1 && y >= y0 && y <= y1 && contains(ring, x, y)) own.push(x, y);
  }
  const found = outlinesOnGrid(own);
  return found.length ? found : null;
}

/** Lines of equal density of the points in a box, from sparse to dense: closed, in units of the map. */
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
  /** The density at each point, sorted. */
  sorted: Float64Array;
  /** The map's position of a position in cells. */
  x(cells: number): number;
  y(cells: number): number;
}

/** Points of a box, spread over cells with some air around them; null where they are too few, or all at one place. */
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
  for (let turn = 0; turn < 2; turn++) {
    density = boxBlur(density, width, height, 1, width);
    density = boxBlur(density, width, height, width, 1);
  }
  const sorted = Float64Array.from(places, (at) => density[at]).sort();
  return { density, width, height, sorted, x: (v) => x0 + (v - MARGIN + 0.5) * cell, y: (v) => y0 + (v - MARGIN + 0.5) * cell };
}

const contoursAt = ({ density, width, height, x, y }: Grid, level: number): number[][] =>
  contours(density, width, height, level).map((ring) => ring.map((v, i) => (i % 2 ? y(v) : x(v))));

/** Sums over neighbours along one axis: `step` from a cell to the next, `other` from one line to the next. */
function boxBlur(values: Float64Array, width: number, height: number, step: number, other: number): Float64Array<ArrayBuffer> {
  const [length, lines] = step === 1 ? [width, height] : [height, width];
  const made = new Float64Array(values.length);
  for (let line = 0; line < lines; line++)
    for (let i = 0; i < length; i++)
      for (let j = Math.max(0, i - BLUR_RADIUS); j <= Math.min(length - 1, i + BLUR_RADIUS); j++)
        made[line * other + i * step] += values[line * other + j * step];
  return made;
}

/** Marching squares: rings around what is above `level`, in units of cells; the edge of the grid must be below it. */
function contours(values: Float64Array, width: number, height: number, level: number): number[][] {
  // A crossing lies on the edge right of a cell (2 × its index) or below it (2 × its index + 1). Each leads to the next.
  const next = new Map<number, number>();
  for (let y = 0; y + 1 < height; y++)
    for (let x = 0; x + 1 < width; x++) {
      const a = y * width + x;
      const [top, left, bottom, right] = [2 * a, 2 * a + 1, 2 * (a + width), 2 * (a + 1) + 1];
      const inside = [a, a + 1, a + width + 1, a + width].map((at) => values[at] > level);
      const edges = [top, right, bottom, left];
      // Going around the corners: the ring leaves where they go out of the area, and comes from where they went into it.
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
