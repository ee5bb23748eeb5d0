/** Distinctive features of a selection: values, clusters and words over-represented against all documents. */

import type { Base } from "./crossfilter";
import type { ColourColumn, NumberColumn } from "./format";
import type { LoadedTile } from "./generation";
import { NO_VALUE, position } from "./scale";
import { maskOf, type Selection } from "./selection";

/** A binary feature, counted in the selection and in all documents. */
export interface Share {
  name: string;
  inside: number;
  all: number;
  /** Ratio of its share in the selection to its share in all documents. */
  lift: number;
  /** Log-likelihood ratio (G²) against independence (Dunning 1993); the critical value at p = 0.001 is 10.83. */
  evidence: number;
}

export const MIN_EVIDENCE = 10.83;

/**
 * Statistics of a feature that `inside` of `selected` documents have, and `all` of `documents`, which include the
 * selected ones.
 */
export function shareOf(name: string, inside: number, selected: number, all: number, documents: number): Share {
  const lift = all && selected ? inside / selected / (all / documents) : 0;
  const cells = [
    [inside, selected, all],
    [selected - inside, selected, documents - all],
    [all - inside, documents - selected, all],
    [documents - selected - all + inside, documents - selected, documents - all],
  ];
  const evidence = 2 * cells.reduce((sum, [seen, row, column]) => sum + (seen > 0 ? seen * Math.log((seen * documents) / (row * column)) : 0), 0);
  return { name, inside, all, lift, evidence };
}

/** The significantly over-represented features, strongest evidence first. */
export const significant = (shares: readonly Share[]): Share[] =>
  shares.filter(({ lift, evidence }) => lift > 1.2 && evidence >= MIN_EVIDENCE).sort((a, b) => b.evidence - a.evidence);

/** Visit each counted point that is not removed, with its tile, index and whether it is selected. */
function forEachCounted(base: Base, selection: Selection, take: (tile: LoadedTile, i: number, selected: boolean) => void): void {
  for (const tile of base.tiles) {
    const mask = maskOf(selection.get(tile.generation.number), tile.info.first, tile.count);
    for (let i = 0; i < tile.count; i++) if (tile.cluster[i] >= -1) take(tile, i, mask[i] === 1);
  }
}

/** Number of selected documents among the counted ones. */
export function countSelectedIn(base: Base, selection: Selection): number {
  let selected = 0;
  forEachCounted(base, selection, (_, __, on) => (selected += on ? 1 : 0));
  return selected;
}

/** Statistics of each code of a tile column; codes without a name are skipped. */
export function sharesByCode(
  base: Base,
  selection: Selection,
  codeOf: (tile: LoadedTile) => ArrayLike<number>,
  nameOf: (code: number) => string | null,
): Share[] {
  const counts = new Map<number, [inside: number, all: number]>();
  let selected = 0;
  let current: LoadedTile | null = null;
  let codes: ArrayLike<number> = [];
  forEachCounted(base, selection, (tile, i, on) => {
    if (tile !== current) codes = codeOf((current = tile));
    let own = counts.get(codes[i]);
    if (!own) counts.set(codes[i], (own = [0, 0]));
    own[1] += 1;
    if (on) own[0] += 1;
    if (on) selected += 1;
  });
  return [...counts].flatMap(([code, [inside, all]]) => {
    const name = nameOf(code);
    return name === null ? [] : [shareOf(name, inside, selected, all, base.documents)];
  });
}

/** How a numeric column differs between the selection and the other documents. */
export interface Shift {
  column: NumberColumn;
  /**
   * Probability that a document of the selection has the larger value of a random pair with another document; ties
   * count half.
   */
  larger: number;
  medianInside: number;
  medianOutside: number;
  values: number;
}

/** Null if either side has no values. */
export function shiftOf(base: Base, selection: Selection, column: NumberColumn, values: (tile: LoadedTile) => Float32Array): Shift | null {
  const [inside, outside]: [number[], number[]] = [[], []];
  let current: LoadedTile | null = null;
  let own: ArrayLike<number> = [];
  forEachCounted(base, selection, (tile, i, on) => {
    if (tile !== current) own = values((current = tile));
    if (!Number.isNaN(position(own[i], column, "linear"))) (on ? inside : outside).push(own[i]);
  });
  if (!inside.length || !outside.length) return null;
  const [a, b] = [Float64Array.from(inside).sort(), Float64Array.from(outside).sort()];
  let larger = 0;
  let [below, upTo] = [0, 0];
  for (const value of a) {
    while (b[below] < value) below++;
    while (b[upTo] <= value) upTo++;
    larger += (below + upTo) / 2;
  }
  return { column, larger: larger / (a.length * b.length), medianInside: a[a.length >> 1], medianOutside: b[b.length >> 1], values: a.length };
}

/** The name of a category; null for the bucket of all other values. */
export const categoryName = (column: ColourColumn, code: number): string | null =>
  column.kind === "categories" ? (code === NO_VALUE ? "no value" : (column.categories[code]?.[0] ?? null)) : null;

/** At most `most` documents at even steps through a selection. */
export function evenSample<G extends { number: number }>(selection: Selection, generations: readonly G[], most: number): { generation: G; position: number }[] {
  const parts = generations.flatMap((generation) => {
    const ranges = selection.get(generation.number) ?? [];
    return Array.from({ length: ranges.length / 2 }, (_, i) => ({ generation, start: ranges[2 * i], end: ranges[2 * i + 1] }));
  });
  const all = parts.reduce((sum, { start, end }) => sum + end - start, 0);
  const count = Math.min(all, most);
  const rows: { generation: G; position: number }[] = [];
  let offset = 0;
  let next = 0;
  for (const { generation, start, end } of parts) {
    for (; next < count; next++) {
      const at = Math.floor((next * all) / count);
      if (at >= offset + end - start) break;
      rows.push({ generation, position: start + at - offset });
    }
    offset += end - start;
  }
  return rows;
}
