/** Counts of drawn points in view. */

import { REMOVED, type LoadedTile } from "./generation";
import { isShown, type Box } from "./lod";
import { stepOf } from "./positions";

/** Number of drawn points in `view`, without removed ones. */
export function countInView(tiles: readonly LoadedTile[], view: Box): number {
  let found = 0;
  for (const tile of tiles) {
    const { bounds, count, cluster, share, removed } = tile;
    const inside = bounds.x0 >= view.x0 && bounds.x1 <= view.x1 && bounds.y0 >= view.y0 && bounds.y1 <= view.y1;
    if (inside && share >= 1) found += count - removed;
    else visit(tile, view, (i) => (found += Number(cluster[i] !== REMOVED)));
  }
  return found;
}

/** Drawn points in `view` by cluster of layer 0. */
export function clustersInView(tiles: readonly LoadedTile[], view: Box): Map<number, number> {
  const tally = new ClusterTally();
  for (const tile of tiles) visit(tile, view, (i) => tally.add(tile.cluster[i]));
  return tally.counts();
}

/** Call `seen` with the index of each drawn point of a tile in `view`. */
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

/** Counter by cluster id, in a typed array since a Map is slow for millions of points. */
export class ClusterTally {
  private found = new Uint32Array(256);

  /** Count a point; noise and removed points are ignored. */
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
