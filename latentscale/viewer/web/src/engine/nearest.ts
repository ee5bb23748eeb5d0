/** Drawn points in a box, nearest its centre first. */

import type { LoadedTile } from "./generation";
import type { Box } from "./lod";
import { stepOf } from "./positions";

export interface DrawnPoint {
  tile: LoadedTile;
  index: number;
}

/** The first `limit` visible points in a box by distance from its centre, and the number of all. */
export function nearestToCentre(
  tiles: readonly LoadedTile[],
  view: Box,
  shown: (tile: LoadedTile, index: number) => boolean,
  limit: number,
): { places: DrawnPoint[]; all: number } {
  const found: (DrawnPoint & { distance: number })[] = [];
  const [mx, my] = [(view.x0 + view.x1) / 2, (view.y0 + view.y1) / 2];
  for (const tile of tiles) {
    const { bounds, count, xy } = tile;
    if (bounds.x1 < view.x0 || bounds.x0 > view.x1 || bounds.y1 < view.y0 || bounds.y0 > view.y1) continue;
    const step = stepOf(tile);
    for (let index = 0; index < count; index++) {
      const x = bounds.x0 + (xy[2 * index] + 0.5) * step;
      const y = bounds.y0 + (xy[2 * index + 1] + 0.5) * step;
      if (x < view.x0 || x > view.x1 || y < view.y0 || y > view.y1 || !shown(tile, index)) continue;
      found.push({ tile, index, distance: (x - mx) ** 2 + (y - my) ** 2 });
    }
  }
  found.sort((a, b) => a.distance - b.distance);
  return { places: found.slice(0, limit), all: found.length };
}
