/** Actions on the map that panels call; bound once the map has been created. */

import type { ClusterEntry } from "./engine/format";
import type { Document } from "./engine/generation";
import type { Selection } from "./engine/selection";
import type { Shape } from "./engine/shape";
import type { Row } from "./state";

export interface Commands {
  /** Show the initial view: the main part of the map, without outliers. */
  home(): void;
  /** Show the whole map, including outliers. */
  whole(): void;
  /** Retry every file that could not be read. */
  retry(): void;
  zoom(steps: number): void;
  /** In 3-D this rotates the map, unless `move` asks for panning. */
  pan(right: number, up: number, move?: boolean): void;
  /** Bring a cluster into view, unless it is visible already. */
  reveal(cluster: ClusterEntry): void;
  /** Zoom to a cluster's extent. */
  frame(cluster: ClusterEntry): void;
  pinRow(rowId: number): void;
  /** Pin a document from a list, and bring it into view. */
  pinAt(row: Row): void;
  /** Highlight a listed document on the map, if it is drawn; null clears the highlight. */
  point(row: Row | null): void;
  /** Pin the document nearest the middle of the window. */
  pinCentre(): void;
  document(rowId: number): Promise<Document | null>;
  /** The part of the map that is visible and not covered by panels. */
  viewShape(): Shape;
  /**
   * Documents that are drawn and not filtered out, within a shape and clusters of layer 0; null means no restriction.
   */
  drawnIn(shape: Shape | null, clusters: ReadonlySet<number> | null): Selection;
  /** Number of documents of a selection that are drawn. */
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
