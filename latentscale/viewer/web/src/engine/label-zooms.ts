/** Zoom ranges of labels, computed like `viewer/labels.py` does at publishing; for labels renamed since. */

import type { ClusterDetail, LabelsFile } from "./format";

/** Maximum width of a label in px at font size 13; the same in `style.css`. */
const LINE_WIDTH = 168;
const NEVER = 99;
/** Full-width characters, one em wide. */
const FULL_WIDTH =
  /[\u1100-\u115f\u231a\u231b\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6b\uff01-\uff60\uffe0-\uffe6\u{1b000}-\u{1b2ff}\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u;

/** Estimated width and height of a label in px, rounded up. */
function labelBox(text: string, px: number): [width: number, height: number] {
  let width = 0;
  for (const sign of text) width += px * (FULL_WIDTH.test(sign) ? 1 : 0.57);
  const line = (LINE_WIDTH * px) / 13;
  const lines = Math.max(1, Math.ceil(width / line));
  return [Math.min(width, line) + 14, lines * px * 1.22 + 6];
}

/** The larger side of a hull's bounding box; 0 without a hull. */
function extentOf(hull: readonly number[]): number {
  if (hull.length < 6) return 0;
  const extentAlong = (from: number): number => {
    const values = hull.filter((_, i) => i % 2 === from);
    return Math.max(...values) - Math.min(...values);
  };
  return Math.max(extentAlong(0), extentAlong(1));
}

/**
 * The zoom range (log2 of pixels per unit) in which each cluster's label is shown; null for never. A label appears at
 * the zoom from which its box overlaps none of higher priority: coarser layers first, then larger clusters.
 *
 * @param side Edge of the map's bounding square, in map units.
 */
export function labelZooms({ layers, hue_layer, clusters }: LabelsFile, details: readonly ClusterDetail[] | null, side: number): ([number, number] | null)[] {
  const zooms: ([number, number] | null)[] = clusters.map(() => null);
  const order = clusters
    .map((_, i) => i)
    .filter((i) => clusters[i].label && !clusters[i].hidden && clusters[i].x !== null && clusters[i].y !== null && !(hue_layer && clusters[i].layer > hue_layer))
    .sort((a, b) => clusters[b].layer - clusters[a].layer || clusters[b].size - clusters[a].size || clusters[a].id - clusters[b].id);
  const lowest = Math.log2(200 / side) - 4;
  const placed: { x: number; y: number; width: number; height: number; since: number; until: number }[] = [];
  for (const i of order) {
    const { layer, label, px, zoom } = clusters[i];
    const [x, y] = [clusters[i].x!, clusters[i].y!];
    const [width, height] = labelBox(label, px);
    let until = Infinity;
    if (layer > 0) {
      const extent = extentOf(details?.[i]?.hull ?? []);
      // Until hulls are loaded: the end of the published range.
      until = extent > 0 ? 1100 / extent : zoom && zoom[1] < NEVER ? 2 ** zoom[1] : (16 * 1100) / side;
    }
    let since = 0;
    for (const other of placed) {
      // Labels that disappear before this one appears do not conflict.
      if (other.since >= until) continue;
      const clearScale = Math.min((other.width + width) / 2 / Math.abs(other.x - x), (other.height + height) / 2 / Math.abs(other.y - y), other.until);
      if (clearScale > since) since = clearScale;
    }
    const start = since > 0 ? Math.max(lowest, Math.log2(since)) : lowest;
    // Coincident labels: there is no room for the second.
    if (!Number.isFinite(start) || since >= until) continue;
    placed.push({ x, y, width, height, since, until });
    const hundredths = (value: number): number => Math.round(100 * value) / 100;
    zooms[i] = [hundredths(start + 0.005), Number.isFinite(until) ? hundredths(Math.log2(until)) : NEVER];
  }
  return zooms;
}
