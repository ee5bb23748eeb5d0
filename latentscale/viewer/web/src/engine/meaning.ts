/** The section in which publishing stores what documents mean, if it was asked for. */

import { sectionKey } from "./sections";
import type { Rules } from "./wordpiece";

/** The section `meaning`: `latentscale/viewer/meaning_files.py` writes it. */
export interface MeaningEntry {
  documents: number;
  dim: number;
  /** Inverted lists, and how many a query reads. */
  lists: number;
  probes: number;
  /** Steps of the codes of documents and of centroids. */
  step: number;
  centroid_step: number;
  /** Share of the ten nearest that so many queries found; null where it was not measured. */
  recall: number | null;
  queries: number;
  /** The model's tokens, so many vectors a file: in the generation of a fit. */
  tokens?: Rules & { rows: number };
}

export const MEANING = sectionKey<MeaningEntry>("meaning", 1);
