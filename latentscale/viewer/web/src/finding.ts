/** The search that runs while the user types. */

import { effect } from "@preact/signals";
import type { Generation } from "./engine/generation";
import { entryOf, search } from "./engine/search";
import { readQuery } from "./engine/tokens";
import * as state from "./state";

/** Milliseconds after a key before the index is asked. */
const PAUSE = 200;

/** Keep what was found in step with what is searched for. */
export function findDocuments(generations: readonly Generation[]): void {
  let timer = 0;
  let turn = 0;
  effect(() => {
    const text = state.query.value;
    const query = readQuery(text);
    const own = ++turn;
    state.setAside.value = true;
    clearTimeout(timer);
    // `#` and a number is a row id; nothing of a text is meant.
    if (!state.index.value || !query.words.length || /^#-?\d*$/.test(text.trim())) {
      if (!query.words.length) state.found.value = null;
      return;
    }
    timer = window.setTimeout(() => {
      ask(generations, query)
        .then((answer) => {
          if (own === turn) state.found.value = answer;
        })
        .catch((error: Error) => {
          if (own === turn) state.report("Search", error);
        });
    }, PAUSE);
  });
}

async function ask(generations: readonly Generation[], query: ReturnType<typeof readQuery>): Promise<state.Answer | null> {
  const entries = await Promise.all(generations.map(entryOf));
  const searchable = entries.reduce((sum, entry, g) => sum + (entry ? generations[g].documents : 0), 0);
  return searchable ? { ...(await search(generations, query)), query, searchable } : null;
}
