/** Cluster outlines and density contours, computed from the root tiles, a sample of the map that is always loaded. */

import { coordinatesOf } from "../engine/drawn-points";
import type { ClusterEntry } from "../engine/format";
import { REMOVED, type LoadedTile } from "../engine/generation";
import type { Box } from "../engine/lod";
import { densityContours, outlinesOf } from "../engine/outline";
import * as state from "../state";
import type { MapCamera } from "./camera";

/** Path units along the longer side of the map, in which contours are written. */
const SIDE = 1000;

export class Outlines {
  private roots: readonly LoadedTile[] = [];
  private readonly made = new Map<ClusterEntry, readonly number[][]>();
  private lines: string | null = null;

  constructor(private readonly body: Box) {}

  /** Set the root tiles; cached lines are dropped if they changed. */
  follow(roots: readonly LoadedTile[]): void {
    if (roots.length === this.roots.length && roots.every((tile, i) => tile === this.roots[i])) return;
    this.roots = roots;
    this.made.clear();
    this.lines = null;
  }

  /** Outlines of a cluster, in map units. */
  readonly of = (cluster: ClusterEntry): readonly number[][] => {
    let found = this.made.get(cluster);
    if (!found) {
      const leaves = new Set(state.leaves.value.get(`${cluster.layer}.${cluster.id}`));
      this.made.set(cluster, (found = outlinesOf(coordinatesOf(this.roots, (tile, i) => leaves.has(tile.cluster[i])))));
    }
    return found;
  };

  /** Density contours as a cached path, with the current transform to the screen. */
  contours(camera: MapCamera): { d: string; transform: string } {
    const { x0, y0, x1, y1 } = this.body;
    const unitLength = Math.max(x1 - x0, y1 - y0) / SIDE || 1;
    this.lines ??= densityContours(coordinatesOf(this.roots, (tile, i) => tile.cluster[i] !== REMOVED), this.body)
      .map((ring) => `M${ring.map((v, i) => ((v - (i % 2 ? y0 : x0)) / unitLength).toFixed(1)).join(" ")}Z`)
      .join("");
    const [left, top] = camera.project(x0, y0);
    const scale = unitLength * camera.scale;
    return { d: this.lines, transform: `matrix(${scale} 0 0 ${-scale} ${left} ${top})` };
  }
}
