/** The search that runs while the user types. */

import { effect, untracked } from "@preact/signals";
import { locate, type Generation } from "./engine/generation";
import { entryOf } from "./engine/search-entry";
import { SIMILAR, likenessOf } from "./engine/similar";
import { MEANING } from "./engine/meaning";
import { lastSection, section } from "./engine/sections";
import { readQuery } from "./engine/tokens";
import * as state from "./state";

/** Milliseconds after a key before the index is asked. */
const PAUSE = 200;
/** Before files by the dozen are. */
const MEANING_PAUSE = 500;
/** In `state.findBy`. */
export const MEANT = "meaning";

/** Keep what was found in step with what is searched for. */
export function findDocuments(generations: readonly Generation[]): void {
  let timer = 0;
  let turn = 0;
  /** The search that failed last, to be asked again. */
  let failed: (() => void) | null = null;
  effect(() => {
    if (state.tries.value) untracked(() => failed?.());
  });
  effect(() => {
    const text = state.query.value;
    const query = readQuery(text);
    // A link may be that of another map.
    const meaning = state.findBy.value === MEANT && state.index.value !== null && lastSection(state.index.value.generations, MEANING) !== null;
    const own = ++turn;
    failed = null;
    state.setAside.value = true;
    clearTimeout(timer);
    // `#` and a number is a row id; nothing of a text is meant.
    if (!state.index.value || !query.words.length || /^#-?\d*$/.test(text.trim())) {
      if (!query.words.length) state.found.value = null;
      return;
    }
    const search = (): void => {
      const like = likenessOf(text);
      (like !== null ? askLike(generations, like) : meaning ? askMeaning(generations, text) : ask(generations, query))
        .then((answer) => {
          if (own === turn) state.found.value = answer;
        })
        .catch((error: Error) => {
          if (own !== turn) return;
          failed = search;
          state.report("Search", error);
        });
    };
    timer = window.setTimeout(search, meaning ? MEANING_PAUSE : PAUSE);
  });
}

const NOTHING = { words: [], open: false, id: "" };

/** Documents like one, from the lists that were stored when the map was published. */
async function askLike(generations: readonly Generation[], rowId: number): Promise<state.Answer> {
  const { similarTo } = await import("./engine/similar-search");
  const [row, indexes] = await Promise.all([locate(generations, rowId), Promise.all(generations.map((generation) => generation.index()))]);
  if (!row) throw new Error(`No document has the row id ${rowId}: it may have left the map.`);
  const hits = await similarTo(generations, row);
  if (!hits) throw new Error("It is not stored what this document is like: publish the map again.");
  const searchable = generations.reduce((sum, { documents }, g) => sum + (section(indexes[g], SIMILAR) ? documents : 0), 0);
  return { hits, whole: true, common: [], more: false, query: NOTHING, searchable, like: rowId };
}

/** Documents near in meaning to a text: whether they have its words is another matter, and none is marked. */
async function askMeaning(generations: readonly Generation[], text: string): Promise<state.Answer> {
  const { searchMeaning } = await import("./engine/meaning-search");
  const found = await searchMeaning(generations, text);
  return { ...found, whole: true, common: [], more: true, query: NOTHING, meaning: true };
}

async function ask(generations: readonly Generation[], query: ReturnType<typeof readQuery>): Promise<state.Answer | null> {
  const entries = await Promise.all(generations.map(entryOf));
  const searchable = entries.reduce((sum, entry, g) => sum + (entry ? generations[g].documents : 0), 0);
  if (!searchable) return null;
  const { search } = await import("./engine/search");
  return { ...(await search(generations, query)), query, searchable };
}
