/** Searches labels and keyphrases of clusters. */

import { useMemo } from "preact/hooks";
import { parseSimilarQuery } from "../../engine/similar";
import { findTopics, type FoundTopics, type TopicTree } from "../../engine/topic-tree";
import * as state from "../../state";

/** The words to search labels for; empty during a similarity search. */
export const searchedWords = (): string => (parseSimilarQuery(state.query.value) === null ? state.query.value.trim().toLowerCase() : "");

export function useSearch(tree: TopicTree): FoundTopics | null {
  const words = searchedWords();
  const [labels, details] = [state.labels.value, state.details.value];
  return useMemo(() => {
    if (!words || !labels) return null;
    const meant = new Set(labels.clusters.filter((_, i) => details?.[i]?.keyphrases.some((phrase) => phrase.toLowerCase().includes(words))));
    return findTopics(tree, (cluster) => cluster.label.toLowerCase().includes(words) || meant.has(cluster));
  }, [words, tree, labels, details]);
}
