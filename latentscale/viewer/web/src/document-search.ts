/** Document search as the user types. */

import { effect, untracked } from "@preact/signals";
import { locate, type Generation } from "./engine/generation";
import { searchEntryOf } from "./engine/search-entry";
import { SIMILAR, parseSimilarQuery } from "./engine/similar";
import { MEANING } from "./engine/meaning";
import { lastSection, section } from "./engine/sections";
import { readQuery } from "./engine/tokens";
import * as state from "./state";

/** Delay after a keystroke before the index is queried. */
const DEBOUNCE_MS = 200;
/** The same for search by meaning, which reads dozens of files. */
const MEANING_DEBOUNCE_MS = 500;
/** Value of `state.findBy` for search by meaning. */
export const BY_MEANING = "meaning";

/** Update the results whenever the query changes. */
export function watchSearch(generations: readonly Generation[]): void {
  let timer = 0;
  let latest = 0;
  /** The last failed search, for a retry. */
  let failed: (() => void) | null = null;
  effect(() => {
    if (state.retries.value) untracked(() => failed?.());
  });
  effect(() => {
    const text = state.query.value;
    const query = readQuery(text);
    // A link may come from another map, which has an index that this one lacks.
    const byMeaning = state.findBy.value === BY_MEANING && state.index.value !== null && lastSection(state.index.value.generations, MEANING) !== null;
    const own = ++latest;
    failed = null;
    state.selectionSuspended.value = true;
    clearTimeout(timer);
    // `#` followed by a number is a row id, not a text query.
    if (!state.index.value || !query.words.length || /^#-?\d*$/.test(text.trim())) {
      if (!query.words.length) state.found.value = null;
      return;
    }
    const search = (): void => {
      const similarTo = parseSimilarQuery(text);
      (similarTo !== null ? searchSimilar(generations, similarTo) : byMeaning ? searchByMeaning(generations, text) : searchWords(generations, query))
        .then((answer) => {
          if (own === latest) state.found.value = answer;
        })
        .catch((error: Error) => {
          if (own !== latest) return;
          failed = search;
          state.report("Search", error);
        });
    };
    timer = window.setTimeout(search, byMeaning ? MEANING_DEBOUNCE_MS : DEBOUNCE_MS);
  });
}

const EMPTY_QUERY = { words: [], open: false, id: "" };

/** Documents similar to one, from the neighbour lists stored at publishing. */
async function searchSimilar(generations: readonly Generation[], rowId: number): Promise<state.Answer> {
  const { similarTo } = await import("./engine/similar-search");
  const [row, indexes] = await Promise.all([locate(generations, rowId), Promise.all(generations.map((generation) => generation.index()))]);
  if (!row) throw new Error(`No document has the row id ${rowId}: it may have left the map.`);
  const hits = await similarTo(generations, row);
  if (!hits) throw new Error("It is not stored what this document is like: publish the map again.");
  const searchable = generations.reduce((sum, { documents }, g) => sum + (section(indexes[g], SIMILAR) ? documents : 0), 0);
  return { hits, whole: true, common: [], more: false, query: EMPTY_QUERY, searchable, like: rowId };
}

/** Documents semantically near a text. They need not contain its words, so none are highlighted. */
async function searchByMeaning(generations: readonly Generation[], text: string): Promise<state.Answer> {
  const { searchMeaning } = await import("./engine/meaning-search");
  const found = await searchMeaning(generations, text);
  return { ...found, whole: true, common: [], more: true, query: EMPTY_QUERY, meaning: true };
}

async function searchWords(generations: readonly Generation[], query: ReturnType<typeof readQuery>): Promise<state.Answer | null> {
  const entries = await Promise.all(generations.map(searchEntryOf));
  const searchable = entries.reduce((sum, entry, g) => sum + (entry ? generations[g].documents : 0), 0);
  if (!searchable) return null;
  const { search } = await import("./engine/search");
  return { ...(await search(generations, query)), query, searchable };
}
