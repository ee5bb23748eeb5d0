/** Rings around chosen points and outlines of chosen clusters, as SVG above the canvas. */

import { clusterColour, css } from "../engine/colour";
import type { ClusterEntry } from "../engine/format";
import * as state from "../state";
import type { MapCamera } from "./camera";

const SVG = "http://www.w3.org/2000/svg";
/** With more clusters isolated, outlines would only be a tangle. */
const MOST_OUTLINES = 6;

export function drawMarks(overlay: SVGSVGElement, camera: MapCamera, pointSize: number): void {
  const nodes: SVGElement[] = [];
  for (const cluster of state.pointed.value ? [state.pointed.value] : fewIsolated()) {
    const outline = hull(cluster, camera);
    if (outline) nodes.push(outline);
  }
  const ring = (point: { x: number; y: number }, kind: string, radius: number): void => {
    const [left, top] = camera.project(point.x, point.y);
    const circle = document.createElementNS(SVG, "circle");
    circle.setAttribute("cx", left.toFixed(1));
    circle.setAttribute("cy", top.toFixed(1));
    circle.setAttribute("r", radius.toFixed(1));
    circle.setAttribute("class", kind);
    nodes.push(circle);
  };
  const radius = pointSize / 2;
  if (state.pinned.value) {
    ring(state.pinned.value, "pinned-outer", radius + 7);
    ring(state.pinned.value, "pinned", radius + 4);
  }
  if (state.hovered.value) ring(state.hovered.value, "hovered", radius + 3.5);
  overlay.replaceChildren(...nodes);
}

function hull(cluster: ClusterEntry, camera: MapCamera): SVGPathElement | null {
  const flat = state.details.value?.[state.labels.value!.clusters.indexOf(cluster)]?.hull ?? [];
  if (flat.length < 6) return null;
  let d = "";
  for (let i = 0; i < flat.length; i += 2) {
    const [left, top] = camera.project(flat[i], flat[i + 1]);
    d += `${i ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`;
  }
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", `${d}Z`);
  path.setAttribute("class", "hull");
  path.style.stroke = path.style.fill = css(clusterColour(cluster.hue, cluster.shade, state.theme.value));
  return path;
}

function fewIsolated(): ClusterEntry[] {
  const refs = [...state.isolated.value];
  return refs.length > MOST_OUTLINES ? [] : refs.map((ref) => state.byRef.value.get(ref)).filter((c) => c !== undefined);
}
