/** Tokeniser of full-text search, equal to `latentscale/viewer/search/tokens.py`, which indexes the documents. */

import rules from "../../../search/tokens.json";

const ranges = (...kinds: ("dropped" | "between" | "unspaced")[]): string =>
  kinds.flatMap((kind) => rules[kind].map(([low, high]) => `\\u{${low}}-\\u{${high}}`)).join("");

const DROPPED = new RegExp(`[${ranges("dropped")}]`, "gu");
const RUNS = new RegExp(`[${ranges("unspaced")}]+|[^${ranges("between", "unspaced")}]+`, "gu");
const UNSPACED = new RegExp(`^[${ranges("unspaced")}]`, "u");

/** Normalise: lower case, compatibility form, no accents. */
export function normalised(text: string): string {
  const plain = text.toLowerCase();
  return /^[\x00-\x7f]*$/.test(plain) ? plain : plain.normalize("NFKD").replace(DROPPED, "").normalize("NFC").toLowerCase();
}

function wordsOf(run: string): string[] {
  const letters = [...run];
  if (!UNSPACED.test(run)) return [letters.slice(0, rules.longest).join("")];
  return letters.length === 1 ? letters : letters.slice(1).map((letter, i) => letters[i] + letter);
}

/** The words of a text, with repetitions. */
export const tokens = (text: string): string[] => [...normalised(text).matchAll(RUNS)].flatMap(([run]) => wordsOf(run));

export interface Query {
  /** Distinct words, in the order typed. */
  words: string[];
  /** Whether the last word may be a prefix: it is still being typed. */
  open: boolean;
  /** The whole query, to match a document's own id. */
  id: string;
}

/** Parse the text of the search field. */
export function readQuery(text: string): Query {
  const found = tokens(text);
  const last = found[found.length - 1];
  const open = found.length > 0 && /\S$/.test(text) && !UNSPACED.test(last);
  const words = [...new Set(found)];
  // The last word stays last: it may be a prefix.
  if (open) words.push(...words.splice(words.indexOf(last), 1));
  return { words, open, id: normalised(text.trim()) };
}

/** Split a text into alternating parts: those at odd indices match words of the query. */
export function splitAtMatches(text: string, query: Query): string[] {
  const parts: string[] = [];
  let at = 0;
  for (const [start, end] of matchSpans(text, query)) {
    parts.push(text.slice(at, start), text.slice(start, end));
    at = end;
  }
  return [...parts, text.slice(at)];
}

/** Character ranges of a text that match words of a query, in order. */
export function matchSpans(text: string, { words, open }: Query): [start: number, end: number][] {
  const queryWords = new Set(words);
  const prefix = open ? words[words.length - 1] : null;
  const spans: [number, number][] = [];
  for (const { 0: run, index } of text.matchAll(RUNS)) {
    if (!UNSPACED.test(run)) {
      const own = tokens(run);
      if (own.some((word) => queryWords.has(word) || (prefix !== null && word.startsWith(prefix)))) spans.push([index, index + run.length]);
      continue;
    }
    const letters = [...run];
    let place = index;
    letters.forEach((letter, i) => {
      const pair = (k: number) => k >= 0 && k + 1 < letters.length && queryWords.has(normalised(letters[k] + letters[k + 1]));
      const end = place + letter.length;
      if (pair(i) || pair(i - 1) || queryWords.has(normalised(letter))) {
        const last = spans[spans.length - 1];
        if (last?.[1] === place) last[1] = end;
        else spans.push([place, end]);
      }
      place = end;
    });
  }
  return spans;
}
