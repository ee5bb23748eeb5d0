/** Reactions to filter changes: text filters are evaluated, and counting is started. */

import { effect } from "@preact/signals";
import { withFilter } from "./engine/filters";
import * as state from "./state";

/** Start at page load; the scripts that evaluate and count are loaded with the first filter. */
export function watchFilters(): void {
  let counting = false;
  effect(() => {
    if (!state.filters.value.size || !state.index.value) {
      if (state.textMatches.peek().size) state.textMatches.value = new Map();
      return;
    }
    if (!counting)
      import("./counting")
        .then(({ startCounting }) => startCounting())
        .catch((error: Error) => state.report("Counts of the filters", error));
    counting = true;
    const requested = [...state.filters.value].flatMap(([key, filter]) => (filter.kind === "text" ? [{ key, text: filter.contains, pattern: filter.pattern ?? false }] : []));
    const known = state.textMatches.peek();
    const next = new Map<string, state.TextMatch>(
      requested.map(({ key, text, pattern }) => {
        const old = known.get(key);
        return [key, old?.text === text && old.pattern === pattern ? old : { text, pattern, documents: null }];
      }),
    );
    if (next.size || known.size) state.textMatches.value = next;
    for (const [key, match] of next) if (match !== known.get(key)) void matchText(key, match);
  });
}

async function matchText(key: string, asked: state.TextMatch): Promise<void> {
  const column = key.replace(/^@/, "");
  try {
    const { findTexts } = await import("./engine/text-scan");
    const documents = await findTexts(state.generations.value, column, asked.text, asked.pattern);
    if (state.textMatches.value.get(key) === asked) state.textMatches.value = new Map(state.textMatches.value).set(key, { ...asked, documents });
  } catch (error) {
    // Superseded by a later filter.
    if (state.textMatches.value.get(key) !== asked) return;
    // A filter that cannot be applied is removed: the page must not look filtered.
    state.filters.value = withFilter(state.filters.value, key, null);
    state.notice.value = `${column}: ${(error as Error).message}`;
  }
}
