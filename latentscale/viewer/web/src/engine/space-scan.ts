/** Projects the drawn points of a 3-D map to the screen: for picking, counting and listing. */

import { REMOVED, type LoadedTile } from "./generation";
import { isShown } from "./lod";
import { positionAt, stepOf } from "./positions";
import { NEAR, type Frame, type Vector } from "./orbit";

/** Heights and density ranks of a tile's points, as in `Heights`; null until loaded. */
export type HeightsOf = (tile: LoadedTile) => { values: Float32Array } | null;

export type Visit = (tile: LoadedTile, index: number, left: number, top: number, toward: number) => void;

/** Visit each drawn point in front of the near plane, with its screen position. */
export function scanSpace(frame: Frame, tiles: readonly LoadedTile[], heights: HeightsOf, visit: Visit): void {
  const { target, right, up, toward, scale, perspective, lift, width, height } = frame;
  for (const tile of tiles) {
    const found = heights(tile);
    if (!found) continue;
    const { bounds, xy, cluster, count, share } = tile;
    const step = stepOf(tile);
    const corner: Vector = [bounds.x0 + 0.5 * step - target[0], bounds.y0 + 0.5 * step - target[1], -target[2]];
    const [r, u, t] = [right, up, toward].map((axis) => ({
      base: axis[0] * corner[0] + axis[1] * corner[1] + axis[2] * corner[2],
      x: axis[0] * step,
      y: axis[1] * step,
      z: axis[2] * lift,
    }));
    for (let i = 0; i < count; i++) {
      if (cluster[i] === REMOVED || (share < 1 && !isShown(i, share))) continue;
      const [x, y, z] = [xy[2 * i], xy[2 * i + 1], found.values[2 * i]];
      const near = t.base + t.x * x + t.y * y + t.z * z;
      const w = 1 - near * perspective;
      if (w < NEAR) continue;
      const zoom = scale / w;
      visit(tile, i, width / 2 + (r.base + r.x * x + r.y * y + r.z * z) * zoom, height / 2 - (u.base + u.x * x + u.y * y + u.z * z) * zoom, near);
    }
  }
}

/**
 * Pick a point: of those whose disc covers the position the nearest to the eye, otherwise the closest within reach.
 */
export function pickInSpace(
  frame: Frame,
  tiles: readonly LoadedTile[],
  heights: HeightsOf,
  at: { left: number; top: number; reach: number; radius: number },
  shows: (tile: LoadedTile, index: number) => boolean,
): { tile: LoadedTile; index: number; x: number; y: number } | null {
  let best: { tile: LoadedTile; index: number } | null = null;
  let bestRank = -Infinity;
  const reach2 = at.reach ** 2;
  scanSpace(frame, tiles, heights, (tile, index, left, top, near) => {
    const distance2 = (left - at.left) ** 2 + (top - at.top) ** 2;
    if (distance2 > reach2) return;
    const radius = at.radius / (1 - near * frame.perspective);
    // Covering discs rank above mere proximity.
    const rank = distance2 <= radius * radius ? 1e9 + near : -distance2;
    if (rank <= bestRank || !shows(tile, index)) return;
    bestRank = rank;
    best = { tile, index };
  });
  if (!best) return null;
  const { tile, index } = best as { tile: LoadedTile; index: number };
  const [x, y] = positionAt(tile, index);
  return { tile, index, x, y };
}
