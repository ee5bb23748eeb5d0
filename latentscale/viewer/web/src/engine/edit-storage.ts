/** Where the browser keeps edits of clusters: by the map that these are of. */

import type { Manifest } from "./format";

export const EDITS = "latentscale edits ";

/** The id of the map whose clusters the page shows, by the folder of their files. */
export function mapOf({ labels, generations }: Manifest): string {
  const folder = labels ?? generations[generations.length - 1].url;
  return /(?:^|\/)maps\/([^/]+)\//.exec(folder)?.[1] ?? folder;
}

/** Whether anything is kept; in some windows to ask throws. */
export function hasEdits(manifest: Manifest): boolean {
  try {
    return localStorage.getItem(EDITS + mapOf(manifest)) !== null;
  } catch {
    return false;
  }
}
