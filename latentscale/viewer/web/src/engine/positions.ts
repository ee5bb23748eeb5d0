/** Positions within a tile: integer steps along its edge, 65,536 of them or, refined, more. */

import type { GenerationEntry } from "./format";
import type { Box } from "./lod";

/** Steps along the edge of every tile. */
export const STEPS = 65_536;

/** Width of the whole map in px at maximum zoom, where all positions are precise to half a pixel. */
const MAX_MAP_WIDTH = 4_000_000;
/** The same for maps without refined positions: points of the root tile are off by up to two pixels. */
const MAX_MAP_WIDTH_COARSE = 4 * STEPS;

/** The same in 3-D, where heights and positions have 65,536 steps: precise to a pixel. */
export const MAX_MAP_WIDTH_IN_SPACE = 2 * STEPS;

export interface TilePositions {
  bounds: Box;
  /** x0, y0, x1, y1, … in steps. */
  xy: Uint16Array | Uint32Array;
  steps: number;
}

/** Size of a step in map units. */
export const stepOf = ({ bounds, steps }: Omit<TilePositions, "xy">): number => (bounds.x1 - bounds.x0) / steps;

/** Position of a point in map units. */
export function positionAt(tile: TilePositions, i: number): [x: number, y: number] {
  const step = stepOf(tile);
  return [tile.bounds.x0 + (tile.xy[2 * i] + 0.5) * step, tile.bounds.y0 + (tile.xy[2 * i + 1] + 0.5) * step];
}

/** Additional bits per axis that are available for tiles at a depth. */
export const fineLevels = ({ fine = 0 }: Pick<GenerationEntry, "fine">, depth: number): number => Math.max(0, fine - depth);

/** Maximum width in px to which the map can be zoomed. */
export const maxMapWidth = (generations: readonly { entry: Pick<GenerationEntry, "fine"> }[]): number =>
  generations.every(({ entry }) => entry.fine) ? MAX_MAP_WIDTH : MAX_MAP_WIDTH_COARSE;

/** Positions refined by the bits of `codes`, one pair for each of `levels`. */
export function refinedPositions(xy: Uint16Array | Uint32Array, codes: ArrayLike<number>, levels: number): Uint32Array {
  const found = new Uint32Array(xy.length);
  for (let i = 0; i < codes.length; i++) {
    found[2 * i] = xy[2 * i] * 2 ** levels + evenBits(codes[i]);
    found[2 * i + 1] = xy[2 * i + 1] * 2 ** levels + evenBits(codes[i] >>> 1);
  }
  return found;
}

/** Compact the even bits of a Morton code. */
export function evenBits(code: number): number {
  let v = code & 0x55555555;
  v = (v | (v >>> 1)) & 0x33333333;
  v = (v | (v >>> 2)) & 0x0f0f0f0f;
  v = (v | (v >>> 4)) & 0x00ff00ff;
  return (v | (v >>> 8)) & 0xffff;
}
