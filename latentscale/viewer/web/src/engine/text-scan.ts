/** Documents by what a text of theirs holds, where the page has no index of it: all row packs are read. */

import { ViewerError } from "./format";
import type { Generation } from "./generation";
import { decodeValues } from "./parquet";
import { PatternMatcher } from "./pattern";
import { patternError } from "./pattern-syntax";
import { forEachConcurrent } from "./scan";
import { combine, mergeRanges, rangesOf, type Selection } from "./selection";
import { decoded } from "./store";

/** Bytes of row packs that are read at most. */
const MAX_BYTES = 64 << 20;

/** How many bytes a filter by text reads, or would read. */
export async function bytesOfTexts(generations: readonly Generation[]): Promise<number> {
  await forEachConcurrent(generations, (generation) => generation.allPages());
  return generations.reduce((sum, { tree }) => sum + tree.packs.reduce((own, pack) => own + pack.bytes, 0), 0);
}

/** The documents that pass a filter by text: `contains` are characters, or a regular expression; null for no text at all. */
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
 * The documents whose value in a column passes: `pass` tells it of those of a file.
 *
 * @throws ViewerError where all texts of the map are more than a page should read.
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
      const values = await decoded(generation.name(name), () => decodeValues(file, column));
      // A generation from before the column was published: no document of it has a value.
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

/** The position after a pack's last document. */
function packEnd(generation: Generation, first: number): number {
  const next = generation.tree.packs.find((pack) => pack.first > first);
  return next ? next.first : generation.entry.documents;
}

/** Whether a value holds some characters, in any case; null: whether there is no text at all. */
export function containsText(contains: string | null): (value: unknown) => boolean {
  if (contains === null) return (value) => value === null || value === undefined || (typeof value === "string" && !value.trim());
  const wanted = contains.toLowerCase();
  return (value) => value !== null && value !== undefined && String(value).toLowerCase().includes(wanted);
}
