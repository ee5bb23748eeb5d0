/** Searches labels and keyphrases of clusters. */

import { useMemo } from "preact/hooks";
import { parseSimilarQuery } from "../../engine/similar";
import { findTopics, type FoundTopics, type TopicTree } from "../../engine/topic-tree";
import * as state from "../../state";

/** The words to search labels for; empty during a similarity search. */
export const searchedWords = (): string => (parseSimilarQuery(state.query.value) === null ? state.query.value.trim().toLowerCase() : "");

/** Topics whose label or keyphrases contain the query; null without one. */
export function useSearch(tree: TopicTree): FoundTopics | null {
  const words = searchedWords();
  const [labels, details] = [state.labels.value, state.details.value];
  return useMemo(() => {
    if (!words || !labels) return null;
    const byKeyphrase = new Set(labels.clusters.filter((_, i) => details?.[i]?.keyphrases.some((phrase) => phrase.toLowerCase().includes(words))));
    return findTopics(tree, (cluster) => cluster.label.toLowerCase().includes(words) || byKeyphrase.has(cluster));
  }, [words, tree, labels, details]);
}
