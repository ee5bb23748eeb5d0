/** Floor grid, axes, and the plumb line of the pinned document, as SVG below the points. */

import type { Box } from "../engine/lod";
import { project, type Frame } from "../engine/orbit";

const SVG = "http://www.w3.org/2000/svg";
/** Approximate number of cells along the longer side of the floor. */
const CELLS = 12;
/** Lines are drawn in segments, so that those behind the eye can be clipped. */
const SEGMENTS = 6;

export interface GridBounds {
  floor: Box;
  low: number;
  high: number;
}

type Corner = [x: number, y: number, z: number];

/** A grid step of 1, 2 or 5 times a power of ten. */
export function niceStep(length: number): number {
  const target = length / CELLS;
  const power = 10 ** Math.floor(Math.log10(target));
  return power * ([1, 2, 5].find((factor) => factor * power >= target) ?? 10);
}

/** Draw the grid; `share` is its opacity, `pinned` the position of the pinned document. */
export function drawGrid(svg: SVGSVGElement, frame: Frame, room: GridBounds, share: number, pinned: Corner | null): void {
  const { floor, low, high } = room;
  const step = niceStep(Math.max(floor.x1 - floor.x0, floor.y1 - floor.y0));
  const lines: string[] = [];
  for (let x = Math.ceil(floor.x0 / step) * step; x <= floor.x1; x += step) lines.push(line(frame, [x, floor.y0, low], [x, floor.y1, low]));
  for (let y = Math.ceil(floor.y0 / step) * step; y <= floor.y1; y += step) lines.push(line(frame, [floor.x0, y, low], [floor.x1, y, low]));
  const corners = [floor.x0, floor.x1].flatMap((x) => [floor.y0, floor.y1].map((y): Corner => [x, y, low]));
  const depthOf = ([x, y]: Corner): number => frame.toward[0] * x + frame.toward[1] * y;
  // Axes start at the farthest corner, so that they do not cover points.
  const [x, y] = corners.reduce((far, corner) => (depthOf(corner) < depthOf(far) ? corner : far));
  const ends: [string, Corner][] = [
    ["x", [x === floor.x0 ? floor.x1 : floor.x0, y, low]],
    ["y", [x, y === floor.y0 ? floor.y1 : floor.y0, low]],
    ["z", [x, y, high]],
  ];
  set(svg, 0, "path", { class: "grid-lines", d: lines.join("") });
  set(svg, 1, "path", { class: "grid-axes", d: ends.map(([, end]) => line(frame, [x, y, low], end)).join("") });
  set(svg, 2, "path", { class: "grid-plumb", d: pinned ? line(frame, pinned, [pinned[0], pinned[1], low]) : "" });
  ends.forEach(([name, end], i) => {
    const at = project(frame, ...end);
    const node = set(svg, 3 + i, "text", { class: "grid-name", x: at ? at[0].toFixed(1) : "-99", y: at ? at[1].toFixed(1) : "-99" });
    if (node.textContent !== name) node.textContent = name;
  });
  svg.style.opacity = String(share);
}

function line(frame: Frame, from: Corner, to: Corner): string {
  let d = "";
  let last: [number, number] | null = null;
  for (let i = 0; i <= SEGMENTS; i++) {
    const t = i / SEGMENTS;
    const at = project(frame, from[0] + (to[0] - from[0]) * t, from[1] + (to[1] - from[1]) * t, from[2] + (to[2] - from[2]) * t);
    if (at) d += `${last ? "L" : "M"}${at[0].toFixed(1)} ${at[1].toFixed(1)}`;
    last = at && [at[0], at[1]];
  }
  return d;
}

function set(svg: SVGSVGElement, index: number, kind: string, attributes: Record<string, string>): Element {
  const node = svg.children[index] ?? svg.appendChild(document.createElementNS(SVG, kind));
  for (const [name, value] of Object.entries(attributes)) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  return node;
}
