/** Crossfilter counts: each column is counted under the filters on all other columns, but not its own. */

import type { ColourColumn, NumberColumn } from "./format";
import type { LoadedTile } from "./generation";
import { position, type ScaleKind } from "./scale";

/** Bins of a histogram. */
export const BINS = 32;

/** The documents that are counted: the whole map, or a sample. */
export interface Base {
  tiles: readonly LoadedTile[];
  /** Documents in these tiles, without removed ones. */
  documents: number;
  /** Whether these are all documents of the map. */
  whole: boolean;
}

/** A named condition; `of` gives 1 or 0 for every point of a tile. */
export interface Condition {
  name: string;
  of(tile: LoadedTile): Uint8Array;
}

/** Mask of the points of a tile that are not removed and pass all conditions, except one. */
export function conditionMask(tile: LoadedTile, conditions: readonly Condition[], except?: string): Uint8Array {
  const passed = new Uint8Array(tile.count);
  for (let i = 0; i < tile.count; i++) passed[i] = tile.cluster[i] >= -1 ? 1 : 0;
  for (const { name, of } of conditions) {
    if (name === except) continue;
    const mask = of(tile);
    for (let i = 0; i < tile.count; i++) passed[i] &= mask[i];
  }
  return passed;
}

/** Documents by category code: 64 is all other values, 255 no value. */
export function countCodes(base: Base, passed: (tile: LoadedTile) => Uint8Array, values: (tile: LoadedTile) => Float32Array): Float64Array {
  const counts = new Float64Array(256);
  for (const tile of base.tiles) {
    const [own, codes] = [passed(tile), values(tile)];
    for (let i = 0; i < tile.count; i++) if (own[i]) counts[codes[i]] += 1;
  }
  return counts;
}

/** Documents by histogram bin, then the number without a value. */
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

/** The bin of a value, `BINS` for no value. */
export function binOf(value: number, column: NumberColumn, kind: ScaleKind): number {
  const at = position(value, column, kind);
  return Number.isNaN(at) ? BINS : Math.min(BINS - 1, Math.max(0, Math.floor(at * BINS)));
}

/** Documents by cluster of layer 0; -1 is noise. */
export function countClusters(base: Base, passed: (tile: LoadedTile) => Uint8Array): Map<number, number> {
  const counts = new Map<number, number>();
  for (const tile of base.tiles) {
    const own = passed(tile);
    for (let i = 0; i < tile.count; i++) if (own[i]) counts.set(tile.cluster[i], (counts.get(tile.cluster[i]) ?? 0) + 1);
  }
  return counts;
}

/** Unfiltered counts by category code, as computed at publishing; null for numbers and dates. */
export function publishedCounts(column: ColourColumn): Float64Array | null {
  if (column.kind !== "categories") return null;
  const counts = new Float64Array(256);
  column.categories.forEach(([, count], code) => (counts[code] = count));
  counts[64] = column.other[1];
  counts[255] = column.nulls;
  return counts;
}
