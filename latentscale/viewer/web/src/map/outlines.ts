/** Around the islands of clusters, and along equal density: lines made of the root tiles, a sample of the map that is always here. */

import { coordinatesOf } from "../engine/drawn-points";
import type { ClusterEntry } from "../engine/format";
import { REMOVED, type LoadedTile } from "../engine/generation";
import type { Box } from "../engine/lod";
import { densityContours, outlinesOf } from "../engine/outline";
import * as state from "../state";
import type { MapCamera } from "./camera";

/** Coordinates of contours along the longer side of the map's body: what they are written in. */
const SIDE = 1000;

export class Outlines {
  private roots: readonly LoadedTile[] = [];
  private readonly made = new Map<ClusterEntry, readonly number[][]>();
  private lines: string | null = null;

  constructor(private readonly body: Box) {}

  /** What is made from now on is of these. */
  follow(roots: readonly LoadedTile[]): void {
    if (roots.length === this.roots.length && roots.every((tile, i) => tile === this.roots[i])) return;
    this.roots = roots;
    this.made.clear();
    this.lines = null;
  }

  /** Around a cluster, in units of the map. */
  readonly of = (cluster: ClusterEntry): readonly number[][] => {
    let found = this.made.get(cluster);
    if (!found) {
      const leaves = new Set(state.leaves.value.get(`${cluster.layer}.${cluster.id}`));
      this.made.set(cluster, (found = outlinesOf(coordinatesOf(this.roots, (tile, i) => leaves.has(tile.cluster[i])))));
    }
    return found;
  };

  /** Lines of equal density: the same from frame to frame, but for where they lie on the screen. */
  contours(camera: MapCamera): { d: string; transform: string } {
    const { x0, y0, x1, y1 } = this.body;
    const unit = Math.max(x1 - x0, y1 - y0) / SIDE || 1;
    this.lines ??= densityContours(coordinatesOf(this.roots, (tile, i) => tile.cluster[i] !== REMOVED), this.body)
      .map((ring) => `M${ring.map((v, i) => ((v - (i % 2 ? y0 : x0)) / unit).toFixed(1)).join(" ")}Z`)
      .join("");
    const [left, top] = camera.project(x0, y0);
    const scale = unit * camera.scale;
    return { d: this.lines, transform: `matrix(${scale} 0 0 ${-scale} ${left} ${top})` };
  }
}
