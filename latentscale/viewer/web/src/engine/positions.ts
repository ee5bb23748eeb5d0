/** Where the points of a tile lie: in steps along its edge, 65,536 of them or, close up, more. */

import type { GenerationEntry } from "./format";
import type { Box } from "./lod";

/** Steps along the edge of every tile. */
export const STEPS = 65_536;

/** Pixels that a whole map is wide at the closest zoom; places of all points are known to half of one there. */
const MAX_MAP_WIDTH = 4_000_000;
/** The same for maps of before finer places were written: points of the root tile are then up to two pixels off. */
const MAX_MAP_WIDTH_COARSE = 4 * STEPS;

/** In space, where the heights of points are in as many steps as their places: to a pixel. */
export const MAX_MAP_WIDTH_IN_SPACE = 2 * STEPS;

export interface TilePositions {
  bounds: Box;
  /** x0, y0, x1, y1, … in steps. */
  xy: Uint16Array | Uint32Array;
  steps: number;
}

/** The edge of a step, in units of the map. */
export const stepOf = ({ bounds, steps }: Omit<TilePositions, "xy">): number => (bounds.x1 - bounds.x0) / steps;

/** The place of a point, in units of the map. */
export function positionAt(tile: TilePositions, i: number): [x: number, y: number] {
  const step = stepOf(tile);
  return [tile.bounds.x0 + (tile.xy[2 * i] + 0.5) * step, tile.bounds.y0 + (tile.xy[2 * i + 1] + 0.5) * step];
}

/** Halvings of a step by which places of a tile at a depth are known more closely than the tile says. */
export const fineLevels = ({ fine = 0 }: Pick<GenerationEntry, "fine">, depth: number): number => Math.max(0, fine - depth);

export const maxMapWidth = (generations: readonly { entry: Pick<GenerationEntry, "fine"> }[]): number =>
  generations.every(({ entry }) => entry.fine) ? MAX_MAP_WIDTH : MAX_MAP_WIDTH_COARSE;

/** Places with the bits of `codes`, two for each of `levels`, after their own. */
export function refinedPositions(xy: Uint16Array | Uint32Array, codes: ArrayLike<number>, levels: number): Uint32Array {
  const found = new Uint32Array(xy.length);
  for (let i = 0; i < codes.length; i++) {
    found[2 * i] = xy[2 * i] * 2 ** levels + evenBits(codes[i]);
    found[2 * i + 1] = xy[2 * i + 1] * 2 ** levels + evenBits(codes[i] >>> 1);
  }
  return found;
}

/** The even bits of a Morton code, side by side. */
export function evenBits(code: number): number {
  let v = code & 0x55555555;
  v = (v | (v >>> 1)) & 0x33333333;
  v = (v | (v >>> 2)) & 0x0f0f0f0f;
  v = (v | (v >>> 4)) & 0x00ff00ff;
  return (v | (v >>> 8)) & 0xffff;
}
