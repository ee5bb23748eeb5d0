/** Counts under the filters: over all documents of a small map, over an even sample of a large one. */

import { effect, signal } from "@preact/signals";
import { countBins, countClusters, countCodes, conditionMask, publishedCounts, type Base, type Condition } from "./engine/crossfilter";
import { keyOf } from "./engine/filters";
import type { ColourColumn } from "./engine/format";
import type { LoadedTile } from "./engine/generation";
import { sampleTiles } from "./engine/scan";
import { betterScale } from "./engine/scale";
import { maskOf } from "./engine/selection";
import { activeFilters, tileColumns } from "./filtering";
import * as state from "./state";

/** Tiles that are read to count: 262,144 documents. */
const MAX_TILES = 16;

let reading: Promise<Base> | null = null;

/** Tiles that the counts are taken over; read once. */
export function readCountedTiles(): Promise<Base> {
  reading ??= sampleTiles(state.generations.value, MAX_TILES).then(({ tiles, whole }) => ({
    tiles,
    whole,
    documents: tiles.reduce((sum, tile) => sum + tile.count - tile.removed, 0),
  }));
  reading.catch(() => (reading = null));
  return reading;
}

/** A column's values for the documents that are counted, by tile. */
export async function readColumn(base: Base, column: ColourColumn): Promise<(tile: LoadedTile) => Float32Array> {
  const read = await Promise.all(base.tiles.map((tile) => tileColumns.value!.read(tile, column)));
  const byTile = new Map(base.tiles.map((tile, k) => [tile, read[k]]));
  return (tile) => byTile.get(tile)!;
}

export const CLUSTERS = "clusters";

/** The filters and the isolated clusters as conditions on the counted documents. */
export async function conditions(base: Base): Promise<Condition[]> {
  const found: Condition[] = [];
  for (const { key, column, passes } of activeFilters.value) {
    const own = await readColumn(base, column);
    found.push({ name: key, of: memoized((tile) => Uint8Array.from(own(tile), (value) => (passes(value) ? 1 : 0))) });
  }
  for (const [key, { documents }] of state.textMatches.value)
    if (documents && state.filters.value.has(key))
      found.push({ name: key, of: memoized((tile) => maskOf(documents.get(tile.generation.number), tile.info.first, tile.count)) });
  const shown = state.shownClusters.value;
  if (shown) found.push({ name: CLUSTERS, of: memoized((tile) => Uint8Array.from(tile.cluster, (cluster) => (shown.has(cluster) ? 1 : 0))) });
  return found;
}

function memoized(make: (tile: LoadedTile) => Uint8Array): (tile: LoadedTile) => Uint8Array {
  const made = new Map<LoadedTile, Uint8Array>();
  return (tile) => {
    let mask = made.get(tile);
    if (!mask) made.set(tile, (mask = make(tile)));
    return mask;
  };
}

/** Counts of a column: over all documents, and over those that pass the other filters. */
export interface ColumnCounts {
  /** Categories: 256 counts by code. Otherwise one count per histogram bin, then one for missing values. */
  all: Float64Array;
  passing: Float64Array;
}

export interface Counts {
  base: Base;
  /** Documents that pass all conditions. */
  passing: number;
  columns: ReadonlyMap<string, ColumnCounts>;
  /** Documents that pass the filters, by cluster of layer 0; null without filters. */
  clusters: ReadonlyMap<number, number> | null;
}

/** Keys of the columns whose counts are displayed, and so computed. */
export const displayedColumns = signal<ReadonlySet<string>>(new Set());
export const counts = signal<Counts | null>(null);

async function count(): Promise<Counts> {
  const base = await readCountedTiles();
  const all = await conditions(base);
  const columns = new Map<string, ColumnCounts>();
  for (const column of state.index.value?.colours ?? []) {
    const key = keyOf(column);
    if (!displayedColumns.value.has(key)) continue;
    const published = publishedCounts(column);
    const narrowed = all.some(({ name }) => name !== key);
    if (published && !narrowed) {
      columns.set(key, { all: published, passing: published });
      continue;
    }
    const own = await readColumn(base, column);
    const countWith = (passed: (tile: LoadedTile) => Uint8Array) =>
      column.kind === "categories" ? countCodes(base, passed, own) : countBins(base, passed, own, column, betterScale(column));
    const whole = countWith((tile) => conditionMask(tile, []));
    columns.set(key, { all: whole, passing: narrowed ? countWith((tile) => conditionMask(tile, all, key)) : whole });
  }
  let passing = 0;
  for (const tile of base.tiles) for (const one of conditionMask(tile, all)) passing += one;
  const filtered = all.filter(({ name }) => name !== CLUSTERS);
  const clusters = filtered.length ? countClusters(base, (tile) => conditionMask(tile, filtered)) : null;
  return { base, passing, columns, clusters };
}

let latest = 0;
let started = false;

/** Recompute the counts whenever a filter or the displayed columns change. */
export function startCounting(): void {
  if (started) return;
  started = true;
  effect(() => {
    void [activeFilters.value, state.textMatches.value, state.filters.value, state.shownClusters.value, displayedColumns.value, state.index.value];
    if (!state.index.value) return;
    const own = ++latest;
    count()
      .then((found) => {
        if (own !== latest) return;
        counts.value = found;
        const { clusters, base } = found;
        state.clusterCounts.value = clusters && { clusters, documents: base.documents, whole: base.whole };
      })
      .catch((error: Error) => {
        if (own === latest) state.report("Counts of the filters", error);
      });
  });
}
