/** Filters as they come and go: what passes those by text is looked for, and what passes all is counted. */

import { effect } from "@preact/signals";
import { withFilter } from "./engine/filters";
import * as state from "./state";

/** From the first filter on; the scripts come with it. */
export function keepFilters(): void {
  let counting = false;
  effect(() => {
    if (!state.filters.value.size || !state.index.value) {
      if (state.textMatches.peek().size) state.textMatches.value = new Map();
      return;
    }
    if (!counting)
      import("./counting")
        .then(({ keepCounts }) => keepCounts())
        .catch((error: Error) => state.report("Counts of the filters", error));
    counting = true;
    const asked = [...state.filters.value].flatMap(([key, filter]) => (filter.kind === "text" ? [{ key, text: filter.contains, pattern: filter.pattern ?? false }] : []));
    const known = state.textMatches.peek();
    const next = new Map<string, state.TextMatch>(
      asked.map(({ key, text, pattern }) => {
        const old = known.get(key);
        return [key, old?.text === text && old.pattern === pattern ? old : { text, pattern, documents: null }];
      }),
    );
    if (next.size || known.size) state.textMatches.value = next;
    for (const [key, match] of next) if (match !== known.get(key)) void findText(key, match);
  });
}

async function findText(key: string, asked: state.TextMatch): Promise<void> {
  const column = key.replace(/^@/, "");
  try {
    const { findTexts } = await import("./engine/text-scan");
    const documents = await findTexts(state.generations.value, column, asked.text, asked.pattern);
    if (state.textMatches.value.get(key) === asked) state.textMatches.value = new Map(state.textMatches.value).set(key, { ...asked, documents });
  } catch (error) {
    // Another one has taken its place.
    if (state.textMatches.value.get(key) !== asked) return;
    // What cannot be applied is no filter: the page must not look as if it were.
    state.filters.value = withFilter(state.filters.value, key, null);
    state.notice.value = `${column}: ${(error as Error).message}`;
  }
}
