/** What the panels ask of the map; filled in once there is one. */

import type { ClusterEntry } from "./engine/format";
import type { Document } from "./engine/generation";
import type { Selection } from "./engine/selection";
import type { Shape } from "./engine/shape";
import type { Row } from "./state";

export interface Commands {
  /** The first view: the body of the map. */
  home(): void;
  /** Everything, outliers too. */
  whole(): void;
  /** Ask again for every file that could not be read. */
  retry(): void;
  zoom(steps: number): void;
  /** In space the map is turned instead, unless it is told to `move`. */
  pan(right: number, up: number, move?: boolean): void;
  /** Bring a cluster into view, if it is not. */
  reveal(cluster: ClusterEntry): void;
  /** Show the whole of a cluster. */
  frame(cluster: ClusterEntry): void;
  pinRow(rowId: number): void;
  /** Pin a document of a list, and bring it into view. */
  pinAt(row: Row): void;
  /** Mark a document of a list on the map, if it is drawn. */
  point(row: Row | null): void;
  /** Pin what lies nearest the middle of the window. */
  pinCentre(): void;
  document(rowId: number): Promise<Document | null>;
  /** What the window shows of the map beside the panels. */
  viewShape(): Shape;
  /** Documents that are drawn and shown, in a shape and in clusters of layer 0; null for all. */
  drawnIn(shape: Shape | null, clusters: ReadonlySet<number> | null): Selection;
  /** How many documents of a selection are drawn. */
  drawnOf(selection: Selection): number;
}

const nothing = (): void => undefined;

export const commands: Commands = {
  home: nothing,
  whole: nothing,
  retry: nothing,
  zoom: nothing,
  pan: nothing,
  reveal: nothing,
  frame: nothing,
  pinRow: nothing,
  pinAt: nothing,
  point: nothing,
  pinCentre: nothing,
  document: () => Promise.resolve(null),
  viewShape: () => [],
  drawnIn: () => new Map(),
  drawnOf: () => 0,
};
