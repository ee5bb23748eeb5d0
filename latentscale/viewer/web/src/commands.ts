/** What the panels ask of the map; filled in once there is one. */

import type { Document } from "./engine/generation";

export interface Commands {
  reset(): void;
  zoom(steps: number): void;
  pan(right: number, up: number): void;
  pinRow(rowId: number): void;
  document(rowId: number): Promise<Document | null>;
}

const nothing = (): void => undefined;

export const commands: Commands = {
  reset: nothing,
  zoom: nothing,
  pan: nothing,
  pinRow: nothing,
  document: () => Promise.resolve(null),
};
