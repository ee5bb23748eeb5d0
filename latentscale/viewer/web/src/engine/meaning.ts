/** The optional section with quantised document vectors for semantic search. */

import { sectionKey } from "./sections";
import type { Rules } from "./wordpiece";

/** The section `meaning`: `latentscale/viewer/meaning_files.py` writes it. */
export interface MeaningEntry {
  documents: number;
  dim: number;
  /** Number of inverted lists, and how many a query probes. */
  lists: number;
  probes: number;
  /** Quantisation steps of document and centroid codes. */
  step: number;
  centroid_step: number;
  /** Recall at 10 over `queries` queries; null if not measured. */
  recall: number | null;
  queries: number;
  /** Tokeniser rules, and token vectors per file; only in the generation of a fit. */
  tokens?: Rules & { rows: number };
}

export const MEANING = sectionKey<MeaningEntry>("meaning", 1);
