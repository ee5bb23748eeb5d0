/** What the map asks of its view in space, whose code is loaded when a map is first turned. */

import type { ClusterEntry } from "../engine/format";
import type { LoadedTile } from "../engine/generation";
import type { Picked } from "../engine/pick";
import type { Point, Row } from "../state";
import type { PyramidLayer, PyramidLayerProps } from "./pyramid-layer";

export interface Spatial {
  /** What is loaded of the tiles: those without heights are not drawn yet. */
  drawable(tiles: readonly LoadedTile[]): { tiles: LoadedTile[]; loading: boolean; failed: LoadedTile[] };
  /** Pixels a unit of the map, by which tiles are chosen; in space all of a level or none. */
  scale(): number;
  layer(props: PyramidLayerProps & { id: string }): PyramidLayer;
  /** Labels, marks and grid. */
  placeOverlays(pointSize: number): void;
  pick(left: number, top: number, reach: number): Picked<LoadedTile> | null;
  /** Where a point is on the screen; null behind the eye, or while its height is not known. */
  project(point: Point): [left: number, top: number] | null;
  /** Bring a point into view. */
  reveal(point: Point): void;
  labelAt(left: number, top: number): ClusterEntry | null;
  /** Drawn points in the window. */
  count(): number;
  /** Those of each cluster of layer 0, beside the panels. */
  clusters(): Map<number, number>;
  /** Those nearest the middle of the window first. */
  list(limit: number): { rows: Row[]; all: number };
  /** Keys: turn, or with Shift move. */
  pan(right: number, up: number, move: boolean): void;
  zoom(steps: number): void;
  home(): void;
  whole(): void;
  /** Show a cluster that is so wide. */
  show(cluster: ClusterEntry, size: number): void;
  /** Another set of clusters, or another theme. */
  reset(): void;
  resized(): void;
  retry(tiles: readonly LoadedTile[]): void;
  /** Lay the map flat again, then `done`; at once where the canvas is gone. */
  leave(done: () => void): void;
  end(): void;
}
