/** Selects the labels to show from their zoom ranges. */

import type { ClusterEntry } from "./format";
import type { Box } from "./lod";

export const MAX_LABELS = 150;

/** The labels to show in a view, in the order of `ordered`, at most `limit`. `zoom` is log2 of pixels per unit. */
export function visibleLabels(ordered: readonly ClusterEntry[], view: Box, zoom: number, limit = MAX_LABELS): ClusterEntry[] {
  const shown: ClusterEntry[] = [];
  for (const cluster of ordered) {
    if (shown.length >= limit) break;
    const { x, y, zoom: range } = cluster;
    if (!range || x === null || y === null || zoom < range[0] || zoom > range[1]) continue;
    if (x < view.x0 || x > view.x1 || y < view.y0 || y > view.y1) continue;
    shown.push(cluster);
  }
  return shown;
}

/** Clusters that have labels, in order of priority: coarse layers first, then by size. */
export const labelOrder = (clusters: readonly ClusterEntry[]): ClusterEntry[] =>
  clusters.filter((c) => c.zoom).sort((a, b) => b.layer - a.layer || b.size - a.size || a.id - b.id);
