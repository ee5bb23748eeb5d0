/** Text filters on columns without an index: all row packs are read. */

import { ViewerError } from "./format";
import type { Generation } from "./generation";
import { decodeValues } from "./parquet";
import { PatternMatcher } from "./pattern";
import { patternError } from "./pattern-syntax";
import { forEachConcurrent } from "./scan";
import { combine, mergeRanges, rangesOf, type Selection } from "./selection";
import { decodeFile } from "./store";

/** Maximum bytes of row packs to read. */
const MAX_BYTES = 64 << 20;

/** Bytes that a text filter reads. */
export async function bytesOfTexts(generations: readonly Generation[]): Promise<number> {
  await forEachConcurrent(generations, (generation) => generation.allPages());
  return generations.reduce((sum, { tree }) => sum + tree.packs.reduce((own, pack) => own + pack.bytes, 0), 0);
}

/** Documents that match a text filter: a substring or a regular expression; null matches documents without text. */
export async function findTexts(generations: readonly Generation[], column: string, contains: string | null, pattern: boolean): Promise<Selection> {
  if (!pattern || contains === null) {
    const passes = containsText(contains);
    return scanTexts(generations, column, (values) => Promise.resolve(values.map(passes)));
  }
  const fault = patternError(contains);
  if (fault) throw new ViewerError(fault);
  const matcher = new PatternMatcher(contains);
  try {
    return await scanTexts(generations, column, (values) => matcher.match(values));
  } finally {
    matcher.end();
  }
}

/**
 * Documents whose value in a column passes; `pass` is called with the values of one file at a time.
 *
 * @throws ViewerError if the texts of the map exceed what a page should read.
 */
export async function scanTexts(generations: readonly Generation[], column: string, pass: (values: readonly unknown[]) => Promise<ArrayLike<unknown>>): Promise<Selection> {
  const bytes = await bytesOfTexts(generations);
  if (bytes > MAX_BYTES)
    throw new ViewerError(
      `The texts of this map are ${Math.round(bytes / 1e6).toLocaleString("en")} MB, and the page reads ${MAX_BYTES >> 20} at most to filter by them. The search finds words in maps of any size.`,
    );
  let selection: Selection = new Map();
  for (const generation of generations) {
    const pairs: [number, number][] = [];
    await forEachConcurrent(generation.tree.packs, async ({ index, first }) => {
      const name = `rows/${index}.parquet`;
      const file = await generation.bytes(name);
      const values = await decodeFile(generation.name(name), () => decodeValues(file, column));
      // The generation predates the column: its documents have no value.
      const passed = await pass(values ?? [null]);
      if (!values && passed[0]) pairs.push([first, packEnd(generation, first)]);
      else if (values) for (let i = 0; i < values.length; i++) if (passed[i]) pairs.push([first + i, first + i + 1]);
    });
    const { positions } = await generation.removed();
    const own = new Map([[generation.number, mergeRanges(pairs)]]);
    selection = combine(selection, "add", combine(own, "subtract", new Map([[generation.number, rangesOf(positions)]])));
  }
  return selection;
}

/** End position of a row pack (exclusive). */
function packEnd(generation: Generation, first: number): number {
  const next = generation.tree.packs.find((pack) => pack.first > first);
  return next ? next.first : generation.entry.documents;
}

/** Case-insensitive substring test; null tests for missing or blank text. */
export function containsText(contains: string | null): (value: unknown) => boolean {
  if (contains === null) return (value) => value === null || value === undefined || (typeof value === "string" && !value.trim());
  const needle = contains.toLowerCase();
  return (value) => value !== null && value !== undefined && String(value).toLowerCase().includes(needle);
}
