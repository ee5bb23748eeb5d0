/** How many of the drawn points are in the view: what the page says of itself must be counted. */

import { REMOVED, type LoadedTile } from "./generation";
import { isShown, type Box } from "./lod";

/** Points of `tiles` that are drawn and lie in `view`; those that are not on the map any more count for nothing. */
export function countInView(tiles: readonly LoadedTile[], view: Box): number {
  let found = 0;
  for (const { bounds, count, xy, cluster, share, gone } of tiles) {
    if (bounds.x1 < view.x0 || bounds.x0 > view.x1 || bounds.y1 < view.y0 || bounds.y0 > view.y1) continue;
    const inside = bounds.x0 >= view.x0 && bounds.x1 <= view.x1 && bounds.y0 >= view.y0 && bounds.y1 <= view.y1;
    if (inside && share >= 1) {
      found += count - gone;
      continue;
    }
    const step = (bounds.x1 - bounds.x0) / 65536;
    const [x0, x1] = [(view.x0 - bounds.x0) / step - 0.5, (view.x1 - bounds.x0) / step - 0.5];
    const [y0, y1] = [(view.y0 - bounds.y0) / step - 0.5, (view.y1 - bounds.y0) / step - 0.5];
    for (let i = 0; i < count; i++) {
      const x = xy[2 * i];
      const y = xy[2 * i + 1];
      if (x >= x0 && x <= x1 && y >= y0 && y <= y1 && cluster[i] !== REMOVED && (share >= 1 || isShown(i, share))) found += 1;
    }
  }
  return found;
}
