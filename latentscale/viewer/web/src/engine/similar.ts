/** The query syntax of similarity search, and its section. */

import { sectionKey } from "./sections";

/** The section `similar`: `latentscale/viewer/similar_files.py` writes it. */
export interface SimilarEntry {
  documents: number;
  /** Neighbours stored per document. */
  k: number;
  /** Documents per file. */
  rows: number;
  /** Ids of earlier maps whose generations the lists refer to, by 1-based number. */
  earlier?: string[];
  /**
   * Reverse neighbours: documents of this generation that are near earlier ones. First entry of each file: generation
   * and position.
   */
  back?: { rows: number; first: [of: number, place: number][] };
}

export const SIMILAR = sectionKey<SimilarEntry>("similar", 1);

/** The query for documents similar to one, in the search field and in links. */
const SIMILAR_QUERY = /^like #(-?\d+)$/i;
export const similarQuery = (rowId: number): string => `like #${rowId}`;
/** The row id of a similarity query, or null for other queries. */
export function parseSimilarQuery(text: string): number | null {
  const found = SIMILAR_QUERY.exec(text.trim());
  return found && Number(found[1]);
}
