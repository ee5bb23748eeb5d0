/** What sets a selection apart: values, clusters and words that it has more often than all documents. */

import type { Base } from "./crossfilter";
import type { ColourColumn, NumberColumn } from "./format";
import type { LoadedTile } from "./generation";
import { NO_VALUE, position } from "./scale";
import { maskOf, type Selection } from "./selection";

/** Something that a document has or has not, counted in the selection and in all. */
export interface Share {
  name: string;
  inside: number;
  all: number;
  /** How many times its share in the selection is that in all documents. */
  lift: number;
  /** Log-likelihood ratio against independence (Dunning 1993): what chance gives rarely is above 10.83, one in a thousand. */
  evidence: number;
}

export const LEAST_EVIDENCE = 10.83;

/** `inside` of `selected` documents have it, and `all` of `documents`, the selected ones among them. */
export function share(name: string, inside: number, selected: number, all: number, documents: number): Share {
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

/** Those that stand out, by evidence. */
export const standing = (shares: readonly Share[]): Share[] =>
  shares.filter(({ lift, evidence }) => lift > 1.2 && evidence >= LEAST_EVIDENCE).sort((a, b) => b.evidence - a.evidence);

/** For each point of the counted documents that is on the map: its tile, index, and whether it is selected. */
function each(base: Base, selection: Selection, take: (tile: LoadedTile, i: number, selected: boolean) => void): void {
  for (const tile of base.tiles) {
    const mask = maskOf(selection.get(tile.generation.number), tile.info.first, tile.count);
    for (let i = 0; i < tile.count; i++) if (tile.cluster[i] >= -1) take(tile, i, mask[i] === 1);
  }
}

export function selectedIn(base: Base, selection: Selection): number {
  let selected = 0;
  each(base, selection, (_, __, on) => (selected += on ? 1 : 0));
  return selected;
}

/** Shares of what a code stands for. */
export function shares(
  base: Base,
  selection: Selection,
  codeOf: (tile: LoadedTile) => ArrayLike<number>,
  nameOf: (code: number) => string | null,
): Share[] {
  const counts = new Map<number, [inside: number, all: number]>();
  let selected = 0;
  let at: LoadedTile | null = null;
  let codes: ArrayLike<number> = [];
  each(base, selection, (tile, i, on) => {
    if (tile !== at) codes = codeOf((at = tile));
    let own = counts.get(codes[i]);
    if (!own) counts.set(codes[i], (own = [0, 0]));
    own[1] += 1;
    if (on) own[0] += 1;
    if (on) selected += 1;
  });
  return [...counts].flatMap(([code, [inside, all]]) => {
    const name = nameOf(code);
    return name === null ? [] : [share(name, inside, selected, all, base.documents)];
  });
}

/** How values of a column lie in the selection against all others. */
export interface Shift {
  column: NumberColumn;
  /** How often a document of the selection has the larger value of two, one of it and one of the others; ties by halves. */
  larger: number;
  medianInside: number;
  medianOutside: number;
  values: number;
}

/** Null where either has no value. */
export function shift(base: Base, selection: Selection, column: NumberColumn, values: (tile: LoadedTile) => Float32Array): Shift | null {
  const [inside, outside]: [number[], number[]] = [[], []];
  let at: LoadedTile | null = null;
  let own: ArrayLike<number> = [];
  each(base, selection, (tile, i, on) => {
    if (tile !== at) own = values((at = tile));
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

/** The name of a category, or null for what is not one value. */
export const categoryName = (column: ColourColumn, code: number): string | null =>
  column.kind === "categories" ? (code === NO_VALUE ? "no value" : (column.categories[code]?.[0] ?? null)) : null;

/** Documents spread evenly over a selection. */
export function spread<G extends { number: number }>(selection: Selection, generations: readonly G[], most: number): { generation: G; position: number }[] {
  const parts = generations.flatMap((generation) => {
    const ranges = selection.get(generation.number) ?? [];
    return Array.from({ length: ranges.length / 2 }, (_, i) => ({ generation, start: ranges[2 * i], end: ranges[2 * i + 1] }));
  });
  const all = parts.reduce((sum, { start, end }) => sum + end - start, 0);
  const taken = Math.min(all, most);
  const rows: { generation: G; position: number }[] = [];
  let passed = 0;
  let next = 0;
  for (const { generation, start, end } of parts) {
    for (; next < taken; next++) {
      const at = Math.floor((next * all) / taken);
      if (at >= passed + end - start) break;
      rows.push({ generation, position: start + at - passed });
    }
    passed += end - start;
  }
  return rows;
}
