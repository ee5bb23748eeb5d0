/** Labels in 3-D: at cluster centres, without overlaps; distant ones are less saturated. */

import { obstacles } from "../obstacles";
import { css, inkColour } from "../engine/colour";
import type { ClusterEntry } from "../engine/format";
import { labelOrder } from "../engine/labels";
import { project, type Frame } from "../engine/orbit";
import * as state from "../state";
import { labelNodes } from "./label-nodes";

const MAX_LABELS = 60;
const MARGIN = 3;

interface LabelNode {
  node: HTMLElement;
  width: number;
  height: number;
}

interface Placed {
  cluster: ClusterEntry;
  x: number;
  y: number;
  width: number;
  height: number;
}

export class SpaceLabels {
  private ordered: ClusterEntry[] = [];
  private readonly made = new Map<ClusterEntry, LabelNode>();
  private placed: Placed[] = [];

  constructor(private readonly element: HTMLElement) {}

  reset(clusters: readonly ClusterEntry[]): void {
    this.ordered = labelOrder(clusters).filter(({ z }) => z !== null && z !== undefined);
    for (const { node } of this.made.values()) node.remove();
    this.made.clear();
    this.placed = [];
  }

  at(left: number, top: number): ClusterEntry | null {
    const found = this.placed.find(({ x, y, width, height }) => Math.abs(left - x) <= width / 2 && Math.abs(top - y) <= height / 2);
    return found?.cluster ?? null;
  }

  place(frame: Frame, reach: number): void {
    const zoom = Math.log2(frame.scale);
    const previouslyShown = new Set(this.placed.map(({ cluster }) => cluster));
    // Labels already shown have priority, so that they do not flicker during rotation.
    const wanted = this.ordered
      .filter((cluster) => zoom >= cluster.zoom![0] - 0.4 && zoom <= cluster.zoom![1] + 0.4)
      .sort((a, b) => b.layer - a.layer || Number(previouslyShown.has(b)) - Number(previouslyShown.has(a)) || b.size - a.size);
    const obstacleRects = obstacles.value;
    const shownIds = state.shownClusters.value;
    const visibleClusters = new Set<ClusterEntry>();
    this.placed = [];
    for (const cluster of wanted) {
      if (this.placed.length >= MAX_LABELS) break;
      const at = project(frame, cluster.x!, cluster.y!, cluster.z!);
      if (!at) continue;
      const [x, y, toward] = at;
      if (x < 0 || y < 0 || x > frame.width || y > frame.height) continue;
      const { node, width, height } = this.nodeOf(cluster);
      if (x < width / 2 || y < height / 2 || x > frame.width - width / 2 || y > frame.height - height / 2) continue;
      const isFree =
        !this.placed.some((other) => Math.abs(other.x - x) < (other.width + width) / 2 + MARGIN && Math.abs(other.y - y) < (other.height + height) / 2 + MARGIN) &&
        !obstacleRects.some((wall) => x + width / 2 > wall.left && x - width / 2 < wall.right && y + height / 2 > wall.top && y - height / 2 < wall.bottom);
      if (!isFree) continue;
      visibleClusters.add(cluster);
      this.placed.push({ cluster, x, y, width, height });
      const depth = Math.min(1, Math.max(0, 0.5 - toward / reach));
      const leaves = state.leaves.value.get(`${cluster.layer}.${cluster.id}`) ?? [];
      const dimmed = shownIds !== null && !leaves.some((id) => shownIds.has(id));
      node.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px) translate(-50%, -50%)`;
      node.classList.toggle("dimmed", dimmed);
      node.style.setProperty("--far", `${Math.round(100 * depth)}%`);
      node.style.zIndex = String(Math.round(100 * (1 - depth)));
    }
    for (const [cluster, { node }] of this.made) node.classList.toggle("hidden", !visibleClusters.has(cluster));
  }

  private nodeOf(cluster: ClusterEntry): LabelNode {
    let shown = this.made.get(cluster);
    if (shown) return shown;
    const node = document.createElement("div");
    node.className = `label layer-${Math.min(cluster.layer, 2)}${cluster.edited ? " edited" : ""}`;
    node.append(...labelNodes(cluster.label));
    node.style.fontSize = `${cluster.px}px`;
    node.style.maxWidth = `${(168 * cluster.px) / 13}px`;
    node.style.setProperty("--own", css(inkColour(cluster.hue, cluster.shade, state.theme.value)));
    this.element.append(node);
    shown = { node, width: node.offsetWidth, height: node.offsetHeight };
    this.made.set(cluster, shown);
    return shown;
  }
}
