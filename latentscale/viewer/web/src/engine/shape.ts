/** Selection shapes: polygons in map units. */

import type { Box } from "./lod";

/** Vertices x0, y0, x1, y1, …; closed implicitly. */
export type Shape = readonly number[];

export const boxShape = ({ x0, y0, x1, y1 }: Box): Shape => [x0, y0, x1, y0, x1, y1, x0, y1];

/** Point-in-polygon test with the even-odd rule. */
export function contains(shape: Shape, x: number, y: number): boolean {
  let inside = false;
  for (let i = 0, j = shape.length - 2; i < shape.length; j = i, i += 2) {
    const [ax, ay, bx, by] = [shape[i], shape[i + 1], shape[j], shape[j + 1]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

/** Whether a box is inside or outside the shape, or crossed by its edge. */
export function relation(shape: Shape, box: Box): "inside" | "outside" | "crossed" {
  for (let i = 0, j = shape.length - 2; i < shape.length; j = i, i += 2)
    if (segmentMeetsBox(shape[j], shape[j + 1], shape[i], shape[i + 1], box)) return "crossed";
  return contains(shape, (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) ? "inside" : "outside";
}

/** Whether a segment intersects a box, by separating axes: x, y, and the segment's normal. */
function segmentMeetsBox(ax: number, ay: number, bx: number, by: number, { x0, y0, x1, y1 }: Box): boolean {
  if (Math.max(ax, bx) < x0 || Math.min(ax, bx) > x1 || Math.max(ay, by) < y0 || Math.min(ay, by) > y1) return false;
  const side = (x: number, y: number) => (bx - ax) * (y - ay) - (by - ay) * (x - ax);
  const sides = [side(x0, y0), side(x1, y0), side(x1, y1), side(x0, y1)];
  return sides.some((s) => s >= 0) && sides.some((s) => s <= 0);
}

/** Bounding box of a shape, or of points x0, y0, x1, y1, … */
export function boundsOf(shape: ArrayLike<number>): Box {
  const box = { x0: Infinity, y0: Infinity, x1: -Infinity, y1: -Infinity };
  for (let i = 0; i < shape.length; i += 2) {
    box.x0 = Math.min(box.x0, shape[i]);
    box.x1 = Math.max(box.x1, shape[i]);
    box.y0 = Math.min(box.y0, shape[i + 1]);
    box.y1 = Math.max(box.y1, shape[i + 1]);
  }
  return box;
}
