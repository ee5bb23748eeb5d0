/** Full-text search in the published inverted index; a query reads a few small files, whatever the size of the map. */

import type { Generation } from "./generation";
import { decodeTable } from "./parquet";
import { searchEntryOf, type SearchEntry } from "./search-entry";
import { decodeFile } from "./store";
import type { Query } from "./tokens";

export interface Hit {
  generation: Generation;
  position: number;
  score: number;
  /** Number of query words that it is known to contain. */
  words: number;
}

export interface SearchResult {
  /** Best first: documents with all words or, if there are none, with any. */
  hits: Hit[];
  /** Whether the hits have all words, apart from truncated ones. */
  whole: boolean;
  /** Words whose postings are truncated: they affect the ranking, but do not exclude documents. */
  common: string[];
  /** Whether there may be more hits, since the postings of all words are truncated. */
  more: boolean;
}

const ID_PREFIX = "=";
/** Maximum completions of a word being typed, by document frequency. */
const MAX_COMPLETIONS = 24;
/** Weight of a completion relative to an exact match. */
const COMPLETION_WEIGHT = 0.6;

interface Term {
  term: string;
  documents: number;
  places: Uint8Array;
  weights: Uint8Array;
}

/** Documents with all words, ranked by BM25; if there are none, those with any, more words first. */
export async function search(generations: readonly Generation[], query: Query): Promise<SearchResult> {
  const parts = await Promise.all(generations.map((generation) => searchGeneration(generation, query)));
  const all = parts.reduce((sum, part) => sum + part.documents, 0);
  const words = query.words.map((_, i) => parts.reduce((sum, part) => sum + (part.counts[i] ?? 0), 0));
  // Over all generations: a word rare in an update may be common before.
  const idf = words.map((count) => Math.log(1 + (all - Math.min(count, all) + 0.5) / (count + 0.5)));
  const short = query.words.map((_, i) => parts.some((part) => part.short[i]));
  const selective = query.words.map((_, i) => i).filter((i) => !short[i]);
  const hits: (Hit & { all: boolean })[] = [];
  for (const { generation, matches } of parts)
    for (const [position, found] of matches) {
      const score = found.weights.reduce((sum, weight, i) => sum + (weight ? idf[i] * weight : 0), found.own ? 1000 : 0);
      const words = found.own ? query.words.length : found.weights.filter(Boolean).length;
      const all = found.own || (selective.length ? selective.every((i) => found.weights[i]) : words === query.words.length);
      hits.push({ generation, position, score, words, all });
    }
  const removed = await Promise.all(generations.map(async (generation) => new Set((await generation.removed()).positions)));
  const removedIn = new Map(generations.map((generation, i) => [generation, removed[i]]));
  const remaining = hits.filter((hit) => !removedIn.get(hit.generation)!.has(hit.position));
  const whole = remaining.filter((hit) => hit.all);
  const order = (a: Hit, b: Hit) => (whole.length ? 0 : b.words - a.words) || b.score - a.score || a.generation.number - b.generation.number || a.position - b.position;
  return {
    hits: (whole.length ? whole : remaining).sort(order),
    whole: whole.length > 0,
    common: query.words.filter((_, i) => short[i]),
    more: selective.length === 0 || (!whole.length && selective.length < query.words.length),
  };
}

/** Document frequency of each word at publishing; includes removed documents. */
export async function documentFrequencies(generations: readonly Generation[], words: readonly string[]): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (const generation of generations) {
    const entry = await searchEntryOf(generation);
    for (const word of entry ? words : [])
      for (const { documents } of await readTerms(generation, entry!, word, false)) found.set(word, (found.get(word) ?? 0) + documents);
  }
  return found;
}

interface Match {
  /** Weight per query word, 0 if absent. */
  weights: number[];
  /** Whether the query equals the document's own id. */
  own: boolean;
}

async function searchGeneration(generation: Generation, { words, open, id }: Query) {
  const entry = await searchEntryOf(generation);
  const matches = new Map<number, Match>();
  const counts: number[] = [];
  const short: boolean[] = [];
  if (entry) {
    const at = (position: number): Match => {
      let match = matches.get(position);
      if (!match) matches.set(position, (match = { weights: words.map(() => 0), own: false }));
      return match;
    };
    const lists = await Promise.all(words.map((word, i) => readTerms(generation, entry, word, open && i === words.length - 1)));
    lists.forEach((terms, i) => {
      counts[i] = Math.max(0, ...terms.map((term) => term.documents));
      for (const term of terms) {
        if (term.documents > term.weights.length) short[i] = true;
        const share = (term.term === words[i] ? 1 : COMPLETION_WEIGHT) / 255;
        forEachPosting(term, (position, weight) => {
          const match = at(position);
          match.weights[i] = Math.max(match.weights[i], weight * share);
        });
      }
    });
    if (entry.fields.id && id)
      for (const term of await readTerms(generation, entry, ID_PREFIX + id, false)) forEachPosting(term, (position) => (at(position).own = true));
  }
  return { generation, matches, counts, short, documents: entry?.documents ?? 0 };
}

/** Postings of a word and, if `open`, of words that begin with it. */
async function readTerms(generation: Generation, entry: SearchEntry, word: string, open: boolean): Promise<Term[]> {
  const firsts = entry.shards === 1 ? [""] : await generation.cached("search/first", async () => {
    const name = "sections/search/first.parquet";
    const bytes = await generation.bytes(name);
    return (await decodeFile(generation.name(name), () => decodeTable(bytes))).map(([first]) => first as string);
  });
  let shard = -1;
  let high = firsts.length;
  while (high - shard > 1) {
    const middle = (shard + high) >> 1;
    if (compareCodePoints(firsts[middle], word) <= 0) shard = middle;
    else high = middle;
  }
  if (shard < 0) return [];
  const terms = await readShard(generation, shard);
  const same = terms.filter(({ term }) => term === word);
  if (!open) return same;
  const longer = terms.filter(({ term }) => term !== word && term.startsWith(word));
  // Completions may continue in the next file. Only one more is read: a prefix that fills it is too short to be useful.
  if (shard + 1 < entry.shards && terms[terms.length - 1]?.term.startsWith(word))
    longer.push(...(await readShard(generation, shard + 1)).filter(({ term }) => term.startsWith(word)));
  longer.sort((a, b) => b.documents - a.documents);
  return [...same, ...longer.slice(0, MAX_COMPLETIONS)];
}

/** Compare by code points, the order of UTF-8; JavaScript's order of UTF-16 units differs beyond U+FFFF. */
export function compareCodePoints(a: string, b: string): number {
  const [x, y] = [[...a], [...b]];
  for (let i = 0; i < Math.min(x.length, y.length); i++) if (x[i] !== y[i]) return x[i].codePointAt(0)! - y[i].codePointAt(0)!;
  return x.length - y.length;
}

const readShard = (generation: Generation, shard: number): Promise<Term[]> =>
  generation.cached(`search/${shard}`, async () => {
    const name = `sections/search/terms/${shard}.parquet`;
    const bytes = await generation.bytes(name);
    const rows = await decodeFile(generation.name(name), () => decodeTable(bytes));
    return rows.map(([term, documents, places, weights]) => ({ term, documents, places, weights }) as Term);
  });

/** Visit the postings of a word with their weights (1 to 255). Positions are delta-encoded varints, low bits first. */
export function forEachPosting({ places, weights }: Pick<Term, "places" | "weights">, take: (position: number, weight: number) => void): void {
  let position = 0;
  let step = 0;
  let factor = 1;
  let i = 0;
  for (const byte of places) {
    step += (byte & 127) * factor;
    factor *= 128;
    if (byte & 128) continue;
    position += step;
    take(position, weights[i++]);
    step = 0;
    factor = 1;
  }
}
