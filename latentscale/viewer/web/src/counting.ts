/** What passes the filters, counted: of all documents of a map of some hundred thousand, of an even sample of a larger one. */

import { effect, signal } from "@preact/signals";
import { countBins, countClusters, countCodes, passingAll, publishedCounts, type Base, type Condition } from "./engine/crossfilter";
import { keyOf } from "./engine/filters";
import type { ColourColumn } from "./engine/format";
import type { LoadedTile } from "./engine/generation";
import { sample } from "./engine/scan";
import { betterScale } from "./engine/scale";
import { maskOf } from "./engine/selection";
import { active, values } from "./filtering";
import * as state from "./state";

/** Tiles that are counted: 262,144 documents. */
const MOST_TILES = 16;

let reading: Promise<Base> | null = null;

/** What is counted, read once. */
export function readBase(): Promise<Base> {
  reading ??= sample(state.generations.value, MOST_TILES).then(({ tiles, whole }) => ({
    tiles,
    whole,
    documents: tiles.reduce((sum, tile) => sum + tile.count - tile.gone, 0),
  }));
  reading.catch(() => (reading = null));
  return reading;
}

/** A column's values for the documents that are counted. */
export async function readColumn(base: Base, column: ColourColumn): Promise<(tile: LoadedTile) => Float32Array> {
  const read = await Promise.all(base.tiles.map((tile) => values.value!.read(tile, column)));
  const byTile = new Map(base.tiles.map((tile, k) => [tile, read[k]]));
  return (tile) => byTile.get(tile)!;
}

export const CLUSTERS = "clusters";

/** The filters and what is isolated, as conditions on the documents that are counted. */
export async function conditions(base: Base): Promise<Condition[]> {
  const found: Condition[] = [];
  for (const { key, column, passes } of active.value) {
    const own = await readColumn(base, column);
    found.push({ name: key, of: once((tile) => Uint8Array.from(own(tile), (value) => (passes(value) ? 1 : 0))) });
  }
  for (const [key, { documents }] of state.textMatches.value)
    if (documents && state.filters.value.has(key))
      found.push({ name: key, of: once((tile) => maskOf(documents.get(tile.generation.number), tile.info.first, tile.count)) });
  const shown = state.shownClusters.value;
  if (shown) found.push({ name: CLUSTERS, of: once((tile) => Uint8Array.from(tile.cluster, (cluster) => (shown.has(cluster) ? 1 : 0))) });
  return found;
}

function once(make: (tile: LoadedTile) => Uint8Array): (tile: LoadedTile) => Uint8Array {
  const made = new Map<LoadedTile, Uint8Array>();
  return (tile) => {
    let mask = made.get(tile);
    if (!mask) made.set(tile, (mask = make(tile)));
    return mask;
  };
}

/** Counts of a column: all, and those that pass the other filters. */
export interface Counted {
  /** Of categories by code, 256; of others by bar, and then of no value. */
  all: Float64Array;
  passing: Float64Array;
}

export interface Counts {
  base: Base;
  /** Documents that pass everything. */
  passing: number;
  columns: ReadonlyMap<string, Counted>;
  /** Documents of each cluster of layer 0 that pass the filters on columns; null without any. */
  clusters: ReadonlyMap<number, number> | null;
}

/** Columns whose counts are looked at. */
export const watched = signal<ReadonlySet<string>>(new Set());
export const counts = signal<Counts | null>(null);

async function count(): Promise<Counts> {
  const base = await readBase();
  const all = await conditions(base);
  const columns = new Map<string, Counted>();
  for (const column of state.index.value?.colours ?? []) {
    const key = keyOf(column);
    if (!watched.value.has(key)) continue;
    const published = publishedCounts(column);
    const narrowed = all.some(({ name }) => name !== key);
    if (published && !narrowed) {
      columns.set(key, { all: published, passing: published });
      continue;
    }
    const own = await readColumn(base, column);
    const of = (passed: (tile: LoadedTile) => Uint8Array) =>
      column.kind === "categories" ? countCodes(base, passed, own) : countBins(base, passed, own, column, betterScale(column));
    const whole = of((tile) => passingAll(tile, []));
    columns.set(key, { all: whole, passing: narrowed ? of((tile) => passingAll(tile, all, key)) : whole });
  }
  let passing = 0;
  for (const tile of base.tiles) for (const one of passingAll(tile, all)) passing += one;
  const filtered = all.filter(({ name }) => name !== CLUSTERS);
  const clusters = filtered.length ? countClusters(base, (tile) => passingAll(tile, filtered)) : null;
  return { base, passing, columns, clusters };
}

let turn = 0;
let begun = false;

/** Count again whenever a filter, or what is looked at, changes. */
export function keepCounts(): void {
  if (begun) return;
  begun = true;
  effect(() => {
    void [active.value, state.textMatches.value, state.filters.value, state.shownClusters.value, watched.value, state.index.value];
    if (!state.index.value) return;
    const own = ++turn;
    count()
      .then((found) => {
        if (own !== turn) return;
        counts.value = found;
        const { clusters, base } = found;
        state.clusterCounts.value = clusters && { clusters, documents: base.documents, whole: base.whole };
      })
      .catch((error: Error) => {
        if (own === turn) state.report("Counts of the filters", error);
      });
  });
}
