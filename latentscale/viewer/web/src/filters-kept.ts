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
    const asked = [...state.filters.value].flatMap(([key, filter]) => (filter.kind === "text" ? [{ key, text: filter.contains }] : []));
    const known = state.textMatches.peek();
    const next = new Map(asked.map(({ key, text }) => [key, known.get(key)?.text === text ? known.get(key)! : { text, documents: null }]));
    if (next.size || known.size) state.textMatches.value = next;
    for (const [key, match] of next) if (match !== known.get(key)) void findText(key, match.text);
  });
}

async function findText(key: string, text: string | null): Promise<void> {
  const column = key.replace(/^@/, "");
  try {
    const { holds, scanTexts } = await import("./engine/texts");
    const documents = await scanTexts(state.generations.value, column, holds(text));
    if (state.textMatches.value.get(key)?.text === text) state.textMatches.value = new Map(state.textMatches.value).set(key, { text, documents });
  } catch (error) {
    // What cannot be applied is no filter: the page must not look as if it were.
    state.filters.value = withFilter(state.filters.value, key, null);
    state.notice.value = `${column}: ${(error as Error).message}`;
  }
}
