/** Local-storage keys of cluster edits, by map id. */

import type { Manifest } from "./format";

export const STORAGE_PREFIX = "latentscale edits ";

/** Id of the map whose clusters the page shows, taken from the folder of its label files. */
export function mapIdOf({ labels, generations }: Manifest): string {
  const folder = labels ?? generations[generations.length - 1].url;
  return /(?:^|\/)maps\/([^/]+)\//.exec(folder)?.[1] ?? folder;
}

/** Whether the browser stores edits of this map; in some privacy modes access throws. */
export function hasEdits(manifest: Manifest): boolean {
  try {
    return localStorage.getItem(STORAGE_PREFIX + mapIdOf(manifest)) !== null;
  } catch {
    return false;
  }
}
