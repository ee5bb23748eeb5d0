/** Rings around points and outlines of clusters, as SVG above the canvas. */

import { clusterColour, css } from "../engine/colour";
import type { ClusterEntry } from "../engine/format";
import * as state from "../state";

const SVG = "http://www.w3.org/2000/svg";
/** No outlines if more clusters than this are isolated: they would be a tangle. */
const MAX_OUTLINES = 6;
/** Maximum number of rings: more would hide the map. */
const MAX_RINGS = 60;

/** An SVG element to draw, with its attributes. */
interface Mark {
  kind: "path" | "circle";
  attributes: Record<string, string>;
  colour?: string;
}

/** Projection to the screen. In 3-D, points are projected with their heights, and may be off screen. */
export interface Screen {
  project(x: number, y: number): [left: number, top: number];
  onScreen?(point: state.Point): [left: number, top: number] | null;
}

/** Draw all marks; elements are reused between frames, so that unchanged ones cause no work. */
export function drawMarks(
  overlay: SVGSVGElement,
  screen: Screen,
  pointSize: number,
  /** Outlines of a cluster in map units; if empty, the published hull is drawn. */
  outlinesOf: (cluster: ClusterEntry) => readonly number[][] = () => [],
  /** Path of the density contours, and its transform to the screen. */
  lines: { d: string; transform: string } | null = null,
): void {
  const marks: Mark[] = [];
  if (lines) marks.push({ kind: "path", attributes: { ...lines, class: "contours" } });
  for (const cluster of state.pointed.value ? [state.pointed.value] : outlinedClusters()) {
    const found = outlinesOf(cluster);
    const outline = outlineMark(cluster, found.length ? found : [hullOf(cluster)], screen);
    if (outline) marks.push(outline);
  }
  const ring = (point: state.Point, kind: string, radius: number): void => {
    const at = screen.onScreen ? screen.onScreen(point) : screen.project(point.x, point.y);
    if (!at) return;
    const [left, top] = at;
    marks.push({ kind: "circle", attributes: { cx: left.toFixed(1), cy: top.toFixed(1), r: radius.toFixed(1), class: kind } });
  };
  const radius = pointSize / 2;
  for (const hit of withoutOverlap(state.hits.value, screen, radius + 3)) ring(hit, "hit", radius + 3);
  if (state.pinned.value) {
    ring(state.pinned.value, "pinned-outer", radius + 7);
    ring(state.pinned.value, "pinned", radius + 4);
  }
  if (state.pointedRow.value) ring(state.pointedRow.value, "hovered", radius + 3.5);
  if (state.hovered.value) ring(state.hovered.value, "hovered", radius + 3.5);
  marks.forEach(({ kind, attributes, colour = "" }, i) => {
    let node = overlay.children[i] as SVGElement | undefined;
    if (node?.tagName !== kind) {
      const replacement = document.createElementNS(SVG, kind);
      if (node) node.replaceWith(replacement);
      else overlay.append(replacement);
      node = replacement;
    }
    for (const [name, value] of Object.entries(attributes)) if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    node.style.stroke = node.style.fill = colour;
  });
  while (overlay.children.length > marks.length) overlay.lastElementChild!.remove();
}

/** The published hull of a cluster, x0, y0, x1, y1, … */
const hullOf = (cluster: ClusterEntry): readonly number[] =>
  state.details.value?.[state.labels.value!.clusters.indexOf(cluster)]?.hull ?? [];

function outlineMark(cluster: ClusterEntry, rings: readonly (readonly number[])[], screen: Screen): Mark | null {
  let d = "";
  for (const ring of rings) {
    if (ring.length < 6) continue;
    for (let i = 0; i < ring.length; i += 2) {
      const [left, top] = screen.project(ring[i], ring[i + 1]);
      d += `${i ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`;
    }
    d += "Z";
  }
  if (!d) return null;
  return {
    kind: "path",
    attributes: { d, class: "hull", transform: "" },
    colour: css(clusterColour(cluster.hue, cluster.shade, state.theme.value)),
  };
}

function outlinedClusters(): ClusterEntry[] {
  const refs = [...state.isolated.value];
  return refs.length > MAX_OUTLINES ? [] : refs.map((ref) => state.clustersByRef.value.get(ref)).filter((c) => c !== undefined);
}

/** The first points whose rings do not overlap: overlapping rings would hide the points. */
function withoutOverlap(points: readonly state.Point[], screen: Screen, radius: number): state.Point[] {
  const placed: [left: number, top: number][] = [];
  return points.filter((point) => {
    const at = screen.onScreen ? screen.onScreen(point) : screen.project(point.x, point.y);
    if (!at || placed.length >= MAX_RINGS || placed.some(([left, top]) => Math.hypot(left - at[0], top - at[1]) < 2 * radius)) return false;
    placed.push(at);
    return true;
  });
}
