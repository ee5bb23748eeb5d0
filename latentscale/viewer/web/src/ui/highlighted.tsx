/** Highlighting of query words in texts. */

import { splitAtMatches, matchSpans, type Query } from "../engine/tokens";
import * as state from "../state";
import { shortened } from "./words";

/** Characters of context before the first match. */
const BEFORE = 60;

export function Highlighted({ text }: { text: string }) {
  const query = state.found.value?.query;
  if (!query) return <>{text}</>;
  return <>{splitAtMatches(text, query).map((part, i) => (i % 2 ? <mark key={i}>{part}</mark> : part))}</>;
}

/** An excerpt of about `length` characters that starts shortly before the first match. */
export function excerpt(text: string, length: number, query: Query | undefined): string {
  const flat = text.replace(/\s+/g, " ").trim();
  const first = query && flat.length > length ? matchSpans(flat, query)[0]?.[0] : undefined;
  if (first === undefined || first < length - 30) return shortened(flat, length);
  const start = flat.indexOf(" ", first - BEFORE) + 1;
  return `…${shortened(flat.slice(start > 0 && start <= first ? start : first), length)}`;
}
