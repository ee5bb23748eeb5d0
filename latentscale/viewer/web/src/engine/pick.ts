/** Finds the nearest drawn point by brute force over the tiles that may contain it. */

import { positionAt, stepOf, type TilePositions } from "./positions";

export interface Pickable extends TilePositions {
  cluster: Int32Array;
  count: number;
}

export interface Picked<T> {
  tile: T;
  index: number;
  x: number;
  y: number;
}

/**
 * The nearest point within `reach` map units for which `shown` is true (not filtered out), or null. Distances are
 * computed in tile steps; only the result is decoded.
 */
export function pickNearest<T extends Pickable>(
  tiles: Iterable<T>,
  x: number,
  y: number,
  reach: number,
  shown: (tile: T, index: number) => boolean,
): Picked<T> | null {
  let best: Picked<T> | null = null;
  let bestDistance = reach;
  for (const tile of tiles) {
    const { x0, y0, x1, y1 } = tile.bounds;
    if (x < x0 - bestDistance || x > x1 + bestDistance || y < y0 - bestDistance || y > y1 + bestDistance) continue;
    const step = stepOf(tile);
    const tx = (x - x0) / step - 0.5;
    const ty = (y - y0) / step - 0.5;
    let bestSquare = (bestDistance / step) ** 2;
    const { xy, count } = tile;
    for (let i = 0; i < count; i++) {
      const dx = xy[2 * i] - tx;
      const d = dx * dx;
      if (d > bestSquare) continue;
      const dy = xy[2 * i + 1] - ty;
      const square = d + dy * dy;
      if (square <= bestSquare && shown(tile, i)) {
        bestSquare = square;
        bestDistance = Math.sqrt(square) * step;
        const [px, py] = positionAt(tile, i);
        best = { tile, index: i, x: px, y: py };
      }
    }
  }
  return best;
}
