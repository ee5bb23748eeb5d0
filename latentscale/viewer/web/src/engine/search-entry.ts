/** The index entry of the full-text search section. */

import type { Generation } from "./generation";
import { section, sectionKey } from "./sections";

/** The section `search`: `SearchIndex` in `latentscale/viewer/search/index.py` writes it. */
export interface SearchEntry {
  documents: number;
  shards: number;
  /** Maximum postings per word, those of highest weight. */
  most: number;
  /** Column names by role. */
  fields: { text?: string; title?: string; id?: string };
}

export const SEARCH = sectionKey<SearchEntry>("search", 1);

export async function searchEntryOf(generation: Generation): Promise<SearchEntry | null> {
  return section(await generation.index(), SEARCH);
}
