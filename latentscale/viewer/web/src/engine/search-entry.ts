/** What is known of a map's index of words before it is searched. */

import type { Generation } from "./generation";
import { section, sectionKey } from "./sections";

/** The section `search`: `SearchIndex` in `latentscale/viewer/search/index.py` writes it. */
export interface SearchEntry {
  documents: number;
  shards: number;
  /** A word keeps so many places at most, those of highest weight. */
  most: number;
  /** Columns by their use. */
  fields: { text?: string; title?: string; id?: string };
}

export const SEARCH = sectionKey<SearchEntry>("search", 1);

export async function searchEntryOf(generation: Generation): Promise<SearchEntry | null> {
  return section(await generation.index(), SEARCH);
}
