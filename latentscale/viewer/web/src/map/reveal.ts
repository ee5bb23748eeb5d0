/** Bringing clusters into view. */

import type { ClusterDetail, ClusterEntry } from "../engine/format";
import type { Box } from "../engine/lod";
import type { MapCamera } from "./camera";

/** A cluster counts as visible if this share of it, or of the uncovered window if it is larger, is visible. */
const MIN_VISIBLE = 0.5;

/** Bounding box of a cluster's hull and label position; null without a position. */
export function clusterBox({ x, y }: ClusterEntry, detail: ClusterDetail | undefined): Box | null {
  if (x === null || y === null) return null;
  const flat = detail?.hull ?? [];
  const xs = [x, ...flat.filter((_, i) => i % 2 === 0)];
  const ys = [y, ...flat.filter((_, i) => i % 2 === 1)];
  return { x0: Math.min(...xs), y0: Math.min(...ys), x1: Math.max(...xs), y1: Math.max(...ys) };
}

/** Move to a cluster only if little of it is visible: a user zoomed into part of it wants to stay there. */
export function revealCluster(camera: MapCamera, box: Box): void {
  const free = camera.free();
  const overlapX = Math.min(box.x1, free.x1) - Math.max(box.x0, free.x0);
  const overlapY = Math.min(box.y1, free.y1) - Math.max(box.y0, free.y0);
  const minArea = MIN_VISIBLE * Math.min(area(box), area(free));
  const isVisible = overlapX > 0 && overlapY > 0 && overlapX * overlapY >= minArea;
  if (isVisible) return;
  if (fits(box, free)) camera.reveal((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2);
  else camera.moveTo(camera.fit(box));
}

const area = (box: Box): number => Math.max(0, box.x1 - box.x0) * Math.max(0, box.y1 - box.y0);
const fits = (box: Box, into: Box): boolean => box.x1 - box.x0 <= into.x1 - into.x0 && box.y1 - box.y0 <= into.y1 - into.y0;
