/** Geometry of the overview map. */

import type { Box } from "./lod";

/** Margin around the main part of the map, as a share of its sides. */
const MARGIN = 0.06;
/** The overview is shown when the view covers less than this share of both sides. */
const CLOSE_UP = 0.5;

interface Size {
  width: number;
  height: number;
}

/** The area that the overview shows, and its size in px: the largest that fits into `largest`. */
export function overviewBox(body: Box, largest: Size): { box: Box } & Size {
  const across = body.x1 - body.x0 || 1;
  const along = body.y1 - body.y0 || 1;
  const [dx, dy] = [MARGIN * across, MARGIN * along];
  const box = { x0: body.x0 - dx, y0: body.y0 - dy, x1: body.x0 + across + dx, y1: body.y0 + along + dy };
  const scale = Math.min(largest.width / (box.x1 - box.x0), largest.height / (box.y1 - box.y0));
  // Minimum size, for a map whose points lie on a line.
  return { box, width: Math.max(24, Math.round((box.x1 - box.x0) * scale)), height: Math.max(24, Math.round((box.y1 - box.y0) * scale)) };
}

/** The rectangle of a view within the overview, in px; moved to its edge, with `beyond`, if the centre is outside. */
export function viewFrame(box: Box, size: Size, view: Box, least: number): { left: number; top: number; beyond: boolean } & Size {
  const across = size.width / (box.x1 - box.x0);
  const along = size.height / (box.y1 - box.y0);
  const width = Math.max(least, (view.x1 - view.x0) * across);
  const height = Math.max(least, (view.y1 - view.y0) * along);
  const [x, y] = [((view.x0 + view.x1) / 2 - box.x0) * across, (box.y1 - (view.y0 + view.y1) / 2) * along];
  const [left, top] = [x - width / 2, y - height / 2];
  if (x >= 0 && y >= 0 && x <= size.width && y <= size.height) return { left, top, width, height, beyond: false };
  const clampTo = (at: number, length: number, side: number): number => Math.max(0, Math.min(at, side - length));
  return { left: clampTo(left, width, size.width), top: clampTo(top, height, size.height), width, height, beyond: true };
}

/** Whether the view covers so little that the overview helps. */
export const isCloseUp = (body: Box, view: Box): boolean =>
  view.x1 - view.x0 < CLOSE_UP * (body.x1 - body.x0) && view.y1 - view.y0 < CLOSE_UP * (body.y1 - body.y0);
