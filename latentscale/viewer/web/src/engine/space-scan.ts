/** Where the drawn points of a map in space are on the screen: for pointing, counting and listing. */

import { REMOVED, type LoadedTile } from "./generation";
import { isShown } from "./lod";
import { positionAt, stepOf } from "./positions";
import { NEAR, type Frame, type Vector } from "./orbit";

/** Height and rank of each point of a tile, as `Heights` has them; null where they are not here. */
export type HeightsOf = (tile: LoadedTile) => { values: Float32Array } | null;

export type Visit = (tile: LoadedTile, index: number, left: number, top: number, toward: number) => void;

/** Visit each point that is drawn and before the eye, with its place on the screen. */
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

/** The point that is meant at a place of the screen: of those whose disc covers it the nearest to the eye, else the closest. */
export function pickInSpace(
  frame: Frame,
  tiles: readonly LoadedTile[],
  heights: HeightsOf,
  at: { left: number; top: number; reach: number; radius: number },
  shows: (tile: LoadedTile, index: number) => boolean,
): { tile: LoadedTile; index: number; x: number; y: number } | null {
  let best: { tile: LoadedTile; index: number } | null = null;
  let most = -Infinity;
  const square = at.reach ** 2;
  scanSpace(frame, tiles, heights, (tile, index, left, top, near) => {
    const apart = (left - at.left) ** 2 + (top - at.top) ** 2;
    if (apart > square) return;
    const radius = at.radius / (1 - near * frame.perspective);
    // Nearer to the eye than anything that is only close.
    const merit = apart <= radius * radius ? 1e9 + near : -apart;
    if (merit <= most || !shows(tile, index)) return;
    most = merit;
    best = { tile, index };
  });
  if (!best) return null;
  const { tile, index } = best as { tile: LoadedTile; index: number };
  const [x, y] = positionAt(tile, index);
  return { tile, index, x, y };
}
