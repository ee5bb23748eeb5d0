/** What a search for documents like one is called, and the section in which publishing stores them. */

import { sectionKey } from "./sections";

/** The section `similar`: `latentscale/viewer/similar_files.py` writes it. */
export interface SimilarEntry {
  documents: number;
  /** Documents listed for each. */
  k: number;
  /** Documents a file. */
  rows: number;
  /** Maps whose generations its lists name, by a number from 1. */
  earlier?: string[];
  /** Its documents that belong to the nearest of earlier ones: the first pair of each file, generation and position. */
  back?: { rows: number; first: [of: number, place: number][] };
}

export const SIMILAR = sectionKey<SimilarEntry>("similar", 1);

/** A search for documents like one is written so in the field, and in links. */
const SIMILAR_QUERY = /^like #(-?\d+)$/i;
export const similarQuery = (rowId: number): string => `like #${rowId}`;
/** Whose like are searched for, or null if something else is. */
export function parseSimilarQuery(text: string): number | null {
  const found = SIMILAR_QUERY.exec(text.trim());
  return found && Number(found[1]);
}
