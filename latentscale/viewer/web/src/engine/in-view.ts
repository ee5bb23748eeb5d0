/** How many of the drawn points are in the view: what the page says of itself must be counted. */

import { REMOVED, type LoadedTile } from "./generation";
import { isShown, type Box } from "./lod";
import { stepOf } from "./positions";

/** Points of `tiles` that are drawn and lie in `view`; those that are not on the map any more count for nothing. */
export function countInView(tiles: readonly LoadedTile[], view: Box): number {
  let found = 0;
  for (const tile of tiles) {
    const { bounds, count, cluster, share, gone } = tile;
    const inside = bounds.x0 >= view.x0 && bounds.x1 <= view.x1 && bounds.y0 >= view.y0 && bounds.y1 <= view.y1;
    if (inside && share >= 1) found += count - gone;
    else visit(tile, view, (i) => (found += Number(cluster[i] !== REMOVED)));
  }
  return found;
}

/** How many of the drawn points in `view` each cluster of layer 0 has. */
export function clustersInView(tiles: readonly LoadedTile[], view: Box): Map<number, number> {
  const tally = new Tally();
  for (const tile of tiles) visit(tile, view, (i) => tally.add(tile.cluster[i]));
  return tally.counts();
}

/** Call `seen` with each point of a tile that is drawn and lies in `view`. */
function visit(tile: LoadedTile, view: Box, seen: (i: number) => void): void {
  const { bounds, count, xy, share } = tile;
  if (bounds.x1 < view.x0 || bounds.x0 > view.x1 || bounds.y1 < view.y0 || bounds.y0 > view.y1) return;
  const step = stepOf(tile);
  const [x0, x1] = [(view.x0 - bounds.x0) / step - 0.5, (view.x1 - bounds.x0) / step - 0.5];
  const [y0, y1] = [(view.y0 - bounds.y0) / step - 0.5, (view.y1 - bounds.y0) / step - 0.5];
  for (let i = 0; i < count; i++) {
    const x = xy[2 * i];
    const y = xy[2 * i + 1];
    if (x >= x0 && x <= x1 && y >= y0 && y <= y1 && (share >= 1 || isShown(i, share))) seen(i);
  }
}

/** Counts by cluster: of millions of points, for which a map is slow. */
export class Tally {
  private found = new Uint32Array(256);

  /** Noise, and what is not on the map any more, count for nothing. */
  add(cluster: number): void {
    if (cluster < 0) return;
    if (cluster >= this.found.length) {
      const wider = new Uint32Array(Math.max(cluster + 1, 2 * this.found.length));
      wider.set(this.found);
      this.found = wider;
    }
    this.found[cluster] += 1;
  }

  counts(): Map<number, number> {
    const counts = new Map<number, number>();
    this.found.forEach((documents, cluster) => documents && counts.set(cluster, documents));
    return counts;
  }
}
