/** Interface of the 3-D view, whose code is loaded on first use. */

import type { ClusterEntry } from "../engine/format";
import type { LoadedTile } from "../engine/generation";
import type { Picked } from "../engine/pick";
import type { Point, Row } from "../state";
import type { PyramidLayer, PyramidLayerProps } from "./pyramid-layer";

export interface Spatial {
  /** Split tiles by whether their heights are loaded. */
  drawable(tiles: readonly LoadedTile[]): { tiles: LoadedTile[]; loading: boolean; failed: LoadedTile[] };
  /** Pixels per map unit, for choosing tiles; in 3-D complete levels are drawn. */
  scale(): number;
  layer(props: PyramidLayerProps & { id: string }): PyramidLayer;
  /** Labels, marks and grid. */
  placeOverlays(pointSize: number): void;
  pick(left: number, top: number, reach: number): Picked<LoadedTile> | null;
  /** Screen position of a point; null behind the eye or while its height is unknown. */
  project(point: Point): [left: number, top: number] | null;
  /** Bring a point into view. */
  reveal(point: Point): void;
  labelAt(left: number, top: number): ClusterEntry | null;
  /** Number of drawn points in the window. */
  count(): number;
  /** Drawn points in the uncovered part of the window, by cluster of layer 0. */
  clusters(): Map<number, number>;
  /** Documents in view, nearest the middle of the window first. */
  list(limit: number): { rows: Row[]; all: number };
  /** Rotate by keys, or pan with Shift. */
  pan(right: number, up: number, move: boolean): void;
  zoom(steps: number): void;
  home(): void;
  whole(): void;
  /** Zoom to a cluster of this width. */
  show(cluster: ClusterEntry, size: number): void;
  /** Rebuild labels, for other clusters or another theme. */
  reset(): void;
  resized(): void;
  retry(tiles: readonly LoadedTile[]): void;
  /** Animate back to the flat map, then call `done`; immediately if the canvas is gone. */
  leave(done: () => void): void;
  end(): void;
}
