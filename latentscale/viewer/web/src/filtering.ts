/** The active filters, and masks of the points of a tile that pass them. */

import { computed } from "@preact/signals";
import { columnOf, predicateOf } from "./engine/filters";
import type { LoadedTile } from "./engine/generation";
import { maskOf, type Selection } from "./engine/selection";
import { TileColumns } from "./engine/tile-columns";
import * as state from "./state";

/** Column values by tile, shared by counting and filtering. */
export const tileColumns = computed(() => state.index.value && new TileColumns(state.index.value));

/** Filters on columns that exist on this map. Text filters are evaluated separately: see `textSelections`. */
export const activeFilters = computed(() => {
  const columns = state.index.value?.colours ?? [];
  return [...state.filters.value].flatMap(([key, filter]) => {
    const column = filter.kind === "text" ? null : columnOf(key, columns);
    return column ? [{ key, column, passes: predicateOf(filter, column) }] : [];
  });
});

/** Matches of the text filters, which are evaluated over all documents at once. */
const textSelections = (): Selection[] => [...state.textMatches.value].flatMap(([key, { documents }]) => (state.filters.value.has(key) && documents ? [documents] : []));

/** Whether any filter is in effect. */
export const isFiltering = (): boolean => activeFilters.value.length > 0 || textSelections().length > 0;

function filterMask(tile: LoadedTile, columns: readonly Float32Array[]): Uint8Array {
  const passed = new Uint8Array(tile.count).fill(1);
  activeFilters.value.forEach(({ passes }, k) => {
    const own = columns[k];
    for (let i = 0; i < tile.count; i++) if (passed[i] && !passes(own[i])) passed[i] = 0;
  });
  for (const documents of textSelections()) {
    const own = maskOf(documents.get(tile.generation.number), tile.info.first, tile.count);
    for (let i = 0; i < tile.count; i++) passed[i] &= own[i];
  }
  return passed;
}

/** Mask of the points of a tile that pass all filters. */
export async function passingMask(tile: LoadedTile): Promise<Uint8Array> {
  return filterMask(tile, await Promise.all(activeFilters.value.map(({ column }) => tileColumns.value!.read(tile, column))));
}

/** Files that could not be read; their points are shown. */
const failedFiles = new Set<string>();

/**
 * `passingMask` from cached columns. Null if some are missing: these are requested, and `onArrival` is called when one
 * arrives.
 */
export function cachedPassingMask(tile: LoadedTile, onArrival: () => void): Uint8Array | null {
  const found = activeFilters.value.map(({ column }) => tileColumns.value!.cached(tile, column));
  if (found.every((one) => one !== undefined)) return filterMask(tile, found);
  found.forEach((one, k) => {
    const { column } = activeFilters.value[k];
    const name = `${tile.generation.number}/${column.id}/${tile.info.key}`;
    if (one || pendingFiles.has(name) || failedFiles.has(name)) return;
    pendingFiles.add(name);
    tileColumns
      .value!.read(tile, column)
      .catch((error: Error) => {
        failedFiles.add(name);
        state.report(`Filter by ${column.name}`, error);
      })
      .finally(() => {
        pendingFiles.delete(name);
        onArrival();
      });
  });
  return null;
}
const pendingFiles = new Set<string>();

/** Allow files that failed to be requested again. */
export const retryFilters = (): void => failedFiles.clear();
