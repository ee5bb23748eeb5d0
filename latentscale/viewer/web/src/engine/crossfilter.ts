/** Counts of columns under filters: each column under the filters on all others, as its own are what it is asked for. */

import type { ColourColumn, NumberColumn } from "./format";
import type { LoadedTile } from "./generation";
import { position, type ScaleKind } from "./scale";

/** Bars of a histogram. */
export const BINS = 32;

/** The documents that are counted: all of the map, or of a sample of it. */
export interface Base {
  tiles: readonly LoadedTile[];
  /** Documents of them that are on the map. */
  documents: number;
  /** Whether that is all. */
  whole: boolean;
}

/** What lets documents of a tile pass, by name; each gives 1 or 0 for every point. */
export interface Condition {
  name: string;
  of(tile: LoadedTile): Uint8Array;
}

/** Points of a tile that pass all conditions but one, and are on the map. */
export function passingAll(tile: LoadedTile, conditions: readonly Condition[], but?: string): Uint8Array {
  const passed = new Uint8Array(tile.count);
  for (let i = 0; i < tile.count; i++) passed[i] = tile.cluster[i] >= -1 ? 1 : 0;
  for (const { name, of } of conditions) {
    if (name === but) continue;
    const own = of(tile);
    for (let i = 0; i < tile.count; i++) passed[i] &= own[i];
  }
  return passed;
}

/** Documents of each code of a column with categories: 64 all others, 255 no value. */
export function countCodes(base: Base, passed: (tile: LoadedTile) => Uint8Array, values: (tile: LoadedTile) => Float32Array): Float64Array {
  const counts = new Float64Array(256);
  for (const tile of base.tiles) {
    const [own, codes] = [passed(tile), values(tile)];
    for (let i = 0; i < tile.count; i++) if (own[i]) counts[codes[i]] += 1;
  }
  return counts;
}

/** Documents of each bar of a column's histogram, and then of no value. */
export function countBins(
  base: Base,
  passed: (tile: LoadedTile) => Uint8Array,
  values: (tile: LoadedTile) => Float32Array,
  column: NumberColumn,
  kind: ScaleKind,
): Float64Array {
  const counts = new Float64Array(BINS + 1);
  for (const tile of base.tiles) {
    const [own, all] = [passed(tile), values(tile)];
    for (let i = 0; i < tile.count; i++) if (own[i]) counts[binOf(all[i], column, kind)] += 1;
  }
  return counts;
}

/** `BINS` for no value. */
export function binOf(value: number, column: NumberColumn, kind: ScaleKind): number {
  const at = position(value, column, kind);
  return Number.isNaN(at) ? BINS : Math.min(BINS - 1, Math.max(0, Math.floor(at * BINS)));
}

/** Documents of each cluster of layer 0, -1 for noise. */
export function countClusters(base: Base, passed: (tile: LoadedTile) => Uint8Array): Map<number, number> {
  const counts = new Map<number, number>();
  for (const tile of base.tiles) {
    const own = passed(tile);
    for (let i = 0; i < tile.count; i++) if (own[i]) counts.set(tile.cluster[i], (counts.get(tile.cluster[i]) ?? 0) + 1);
  }
  return counts;
}

/** How many documents of a column have each category, by code, where nothing is filtered: as publishing counted them. */
export function publishedCounts(column: ColourColumn): Float64Array | null {
  if (column.kind !== "categories") return null;
  const counts = new Float64Array(256);
  column.categories.forEach(([, count], code) => (counts[code] = count));
  counts[64] = column.other[1];
  counts[255] = column.nulls;
  return counts;
}
