/** Merges the indexes of all generations: columns and categories by name, totals without removed documents. */

import type { CategoryColumn, ColourColumn, GenerationEntry, IndexFile, Manifest, NumberColumn, RemovedCounts } from "./format";
import { NO_VALUE } from "./scale";

export const OTHER = 64;
export const ADDED = "added";
const MAX_CATEGORIES = 64;

export interface GenerationPart {
  entry: GenerationEntry;
  index: IndexFile;
  removed: RemovedCounts | null;
}

/** Where a generation stores a column of the merged index. */
export interface Source {
  /** The column's id in that generation. */
  id: string;
  /** Lookup table from its codes to merged codes; null for numbers and dates. */
  codes: Uint8Array | null;
}

export interface MergedIndex {
  text: string | null;
  columns: string[];
  colours: ColourColumn[];
  /** The index of each generation, oldest first; their sections are not merged. */
  generations: readonly IndexFile[];
  /** Sources by merged column id, one per generation; null where none of its documents has a value. */
  sources: Map<string, (Source | null)[]>;
}

/** Merge the indexes of all generations, given oldest first. */
export function mergeIndexes(parts: readonly GenerationPart[]): MergedIndex {
  const last = parts[parts.length - 1].index;
  const names = new Set(parts.flatMap(({ index }) => index.colours.map((column) => column.name)));
  const merged: MergedIndex = {
    text: last.text ?? parts.find(({ index }) => index.text !== null)?.index.text ?? null,
    // An update may lack columns that earlier documents have.
    columns: [...new Set([last, ...parts.map(({ index }) => index)].flatMap(({ columns }) => columns))],
    colours: [],
    generations: parts.map(({ index }) => index),
    sources: new Map(),
  };
  for (const name of names) {
    const found = parts.map(({ index }) => index.colours.find((column) => column.name === name) ?? null);
    const first = found.find((column) => column !== null)!;
    // Some generation has the column without colours, or as another kind: it cannot be coloured consistently.
    const isInconsistent = found.some((column, g) => (column ? column.kind !== first.kind : parts[g].index.columns.includes(name)));
    if (isInconsistent) continue;
    const id = freeId(first.id, merged.sources);
    const columns = found.map((column, g) => (column ? withoutRemoved(column, parts[g].removed) : null));
    const missing = columns.reduce((sum, column, g) => sum + (column ? column.nulls : documentsOf(parts[g].entry)), 0);
    const codes: (Uint8Array | null)[] = parts.map(() => null);
    merged.colours.push(
      first.kind === "categories"
        ? mergeCategories(id, columns as (CategoryColumn | null)[], missing, codes)
        : mergeNumbers(id, columns as (NumberColumn | null)[], missing, parts),
    );
    merged.sources.set(id, found.map((column, g) => column && { id: column.id, codes: codes[g] }));
  }
  if (parts.length > 1) merged.colours.push(addedColumn(parts.map(({ entry }) => entry)));
  return merged;
}

/** Number of documents of a generation, without removed ones. */
export const documentsOf = (entry: GenerationEntry): number => entry.documents - (entry.removed?.count ?? 0);

/** The manifest without generations all of whose documents were removed. */
export function withoutEmptyGenerations(manifest: Manifest): Manifest {
  const last = manifest.generations[manifest.generations.length - 1];
  return {
    ...manifest,
    labels: manifest.labels ?? last.url,
    generations: manifest.generations.filter((entry) => entry === last || documentsOf(entry) > 0),
  };
}

/**
 * A free id for a merged column, preferably that of the oldest generation that has it: links stay valid after updates.
 */
function freeId(id: string, taken: ReadonlyMap<string, unknown>): string {
  if (!taken.has(id)) return id;
  let k = 0;
  while (taken.has(`c${k}`)) k++;
  return `c${k}`;
}

function withoutRemoved(column: ColourColumn, removed: RemovedCounts | null): ColourColumn {
  const removedCounts = removed?.columns[column.id] ?? {};
  const nulls = column.nulls - (removedCounts[NO_VALUE] ?? 0);
  if (column.kind !== "categories") return { ...column, nulls };
  return {
    ...column,
    categories: column.categories.map(([name, count], code) => [name, count - (removedCounts[code] ?? 0)]),
    other: [column.other[0], column.other[1] - (removedCounts[OTHER] ?? 0)],
    nulls,
  };
}

/**
 * Merge categories. Codes are those of the oldest generation, new names follow: an update changes no colour. A name
 * keeps its own category only if every generation with a truncated list has it; else it joins the others.
 */
function mergeCategories(
  id: string,
  columns: readonly (CategoryColumn | null)[],
  nulls: number,
  codes: (Uint8Array | null)[],
): CategoryColumn {
  const present = columns.filter((column) => column !== null);
  const truncatedColumns = present.filter((column) => column.other[0] > 0).map((column) => new Set(column.categories.map(([name]) => name)));
  const counts = new Map<string, number>();
  for (const column of present) for (const [name, count] of column.categories) counts.set(name, (counts.get(name) ?? 0) + count);
  const distinct = [...counts.keys()].filter((name) => truncatedColumns.every((names) => names.has(name)));
  const shown = distinct.slice(0, MAX_CATEGORIES);
  const codeOf = new Map(shown.map((name, code) => [name, code]));
  const hidden = [...counts].filter(([name]) => !codeOf.has(name));
  columns.forEach((column, g) => {
    if (!column) return;
    const lut = new Uint8Array(256).fill(OTHER);
    lut[NO_VALUE] = NO_VALUE;
    column.categories.forEach(([name], code) => (lut[code] = codeOf.get(name) ?? OTHER));
    codes[g] = lut;
  });
  return {
    id,
    name: present[0].name,
    kind: "categories",
    categories: shown.map((name) => [name, counts.get(name)!]),
    // Truncated names of several generations may overlap: this is a lower bound.
    other: [
      hidden.length + Math.max(...present.map((column) => column.other[0])),
      hidden.reduce((sum, [, count]) => sum + count, 0) + present.reduce((sum, column) => sum + column.other[1], 0),
    ],
    nulls,
  };
}

function mergeNumbers(id: string, columns: readonly (NumberColumn | null)[], nulls: number, parts: readonly GenerationPart[]): NumberColumn {
  const present: { column: NumberColumn; weight: number }[] = [];
  columns.forEach((column, g) => {
    const weight = column ? documentsOf(parts[g].entry) - column.nulls : 0;
    if (column && weight > 0) present.push({ column, weight });
  });
  const first = columns.find((column) => column !== null)!;
  if (present.length < 2) return { ...(present[0]?.column ?? first), id, nulls };
  return {
    ...first,
    id,
    min: Math.min(...present.map(({ column }) => column.min)),
    max: Math.max(...present.map(({ column }) => column.max)),
    quantiles: mergeQuantiles(present.map(({ column, weight }) => ({ knots: column.quantiles, weight }))),
    nulls,
  };
}

/** Quantiles of a mixture: the inverse of the weighted mean of the distribution functions. */
export function mergeQuantiles(sets: readonly { knots: readonly number[]; weight: number }[]): number[] {
  const steps = sets[0].knots.length - 1;
  const total = sets.reduce((sum, { weight }) => sum + weight, 0);
  const values = [...new Set(sets.flatMap(({ knots }) => knots))].sort((a, b) => a - b);
  // Cumulative share at each value; for repeated knots, after the jump.
  const shares = values.map((value) => sets.reduce((sum, { knots, weight }) => sum + weight * shareBelow(knots, value), 0) / total);
  return Array.from({ length: steps + 1 }, (_, k) => {
    if (k === 0) return values[0];
    const wanted = k / steps;
    const at = shares.findIndex((share) => share >= wanted - 1e-12);
    if (at <= 0) return values[Math.max(0, at)];
    const [low, high] = [shares[at - 1], shares[at]];
    return values[at - 1] + ((wanted - low) / (high - low)) * (values[at] - values[at - 1]);
  });
}

function shareBelow(knots: readonly number[], value: number): number {
  const steps = knots.length - 1;
  if (value < knots[0]) return 0;
  if (value >= knots[steps]) return 1;
  let k = 0;
  while (knots[k + 1] <= value) k++;
  return (k + (value - knots[k]) / (knots[k + 1] - knots[k])) / steps;
}

/** The generation of each document as a categorical column, oldest first. */
function addedColumn(entries: readonly GenerationEntry[]): CategoryColumn {
  return {
    id: ADDED,
    name: "When added",
    kind: "categories",
    categories: entries.map((entry, g) => [generationName(entry, g), documentsOf(entry)]),
    other: [0, 0],
    nulls: 0,
  };
}

/** Display name of a generation. */
export const generationName = (entry: GenerationEntry, number: number): string =>
  entry.added ?? entry.placed ?? (number ? `Update ${number}` : "First documents");
