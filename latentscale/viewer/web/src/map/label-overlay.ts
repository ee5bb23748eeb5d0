/** Labels of the flat map as DOM elements, clear of panels and window edges. */

import { obstacles } from "../obstacles";
import { css, inkColour } from "../engine/colour";
import type { ClusterEntry } from "../engine/format";
import { labelOrder, visibleLabels } from "../engine/labels";
import { placeLabels, type LabelBox } from "../engine/label-placement";
import * as state from "../state";
import type { MapCamera } from "./camera";
import { labelNodes } from "./label-nodes";

interface LabelNode {
  node: HTMLElement;
  width: number;
  height: number;
}

export class LabelOverlay {
  private ordered: ClusterEntry[] = [];
  private readonly shown = new Map<ClusterEntry, LabelNode>();
  /** Labels on the screen, with their centres and sizes in px. */
  private placed: { cluster: ClusterEntry; x: number; y: number; width: number; height: number }[] = [];

  constructor(
    private readonly element: HTMLElement,
    private readonly camera: MapCamera,
  ) {}

  /** Rebuild all labels, for other clusters or another theme. */
  reset(clusters: readonly ClusterEntry[]): void {
    this.ordered = labelOrder(clusters);
    for (const { node } of this.shown.values()) node.remove();
    this.shown.clear();
  }

  /** The cluster whose label is at a screen position. */
  labelAt(left: number, top: number): ClusterEntry | null {
    const found = this.placed.find(({ x, y, width, height }) => Math.abs(left - x) <= width / 2 && Math.abs(top - y) <= height / 2);
    return found?.cluster ?? null;
  }

  /** Place the labels. `lit`: clusters with highlighted documents; null without a highlight. */
  place(lit: ReadonlySet<number> | null): void {
    const { camera } = this;
    const wanted = visibleLabels(this.ordered, camera.view(), camera.place.zoom);
    this.syncNodes(wanted);
    const boxes: LabelBox[] = wanted.map((cluster) => {
      const [x, y] = camera.project(cluster.x!, cluster.y!);
      const { width, height } = this.shown.get(cluster)!;
      return { x, y, width, height };
    });
    const places = placeLabels(boxes, camera.size(), obstacles.value);
    const visible = state.shownClusters.value;
    this.placed = [];
    wanted.forEach((cluster, i) => {
      const { node } = this.shown.get(cluster)!;
      const place = places[i];
      node.classList.toggle("hidden", place === null);
      if (place) this.placed.push({ cluster, ...boxes[i], x: place[0], y: place[1] });
      if (place) node.style.transform = `translate(${place[0].toFixed(1)}px, ${place[1].toFixed(1)}px) translate(-50%, -50%)`;
      const leaves = state.leaves.value.get(`${cluster.layer}.${cluster.id}`) ?? [];
      node.classList.toggle("dimmed", visible !== null && !leaves.some((id) => visible.has(id)));
      node.classList.toggle("faint", lit !== null && !leaves.some((id) => lit.has(id)));
    });
  }

  /** Create elements of labels that appear, remove those of labels that disappear. */
  private syncNodes(wanted: readonly ClusterEntry[]): void {
    const wantedSet = new Set(wanted);
    for (const [cluster, { node }] of this.shown) {
      if (wantedSet.has(cluster)) continue;
      node.remove();
      this.shown.delete(cluster);
    }
    const theme = state.theme.value;
    const made: LabelNode[] = [];
    for (const cluster of wanted) {
      if (this.shown.has(cluster)) continue;
      const node = document.createElement("div");
      node.className = `label layer-${Math.min(cluster.layer, 2)}${cluster.edited ? " edited" : ""}`;
      node.append(...labelNodes(cluster.label));
      node.style.fontSize = `${cluster.px}px`;
      node.style.maxWidth = `${(168 * cluster.px) / 13}px`;
      node.style.setProperty("--own", css(inkColour(cluster.hue, cluster.shade, theme)));
      this.element.append(node);
      const shown = { node, width: 0, height: 0 };
      made.push(shown);
      this.shown.set(cluster, shown);
    }
    // Measured in one batch: measuring between insertions would force a layout each time.
    for (const shown of made) {
      shown.width = shown.node.offsetWidth;
      shown.height = shown.node.offsetHeight;
    }
  }
}
