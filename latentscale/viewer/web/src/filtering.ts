/** Filters at work: which points of a tile pass them, read as tiles come. */

import { computed } from "@preact/signals";
import { columnOf, test } from "./engine/filters";
import type { LoadedTile } from "./engine/generation";
import { maskOf, type Selection } from "./engine/selection";
import { TileColumns } from "./engine/tile-columns";
import * as state from "./state";

/** Values of columns by tile, shared by all that counts and filters. */
export const values = computed(() => state.index.value && new TileColumns(state.index.value));

/** Filters that this map can apply: those on columns with colours, and by texts, of which it is known what passes. */
export const active = computed(() => {
  const columns = state.index.value?.colours ?? [];
  return [...state.filters.value].flatMap(([key, filter]) => {
    const column = filter.kind === "text" ? null : columnOf(key, columns);
    return column ? [{ key, column, passes: test(filter, column) }] : [];
  });
});

/** What passes the filters by text: they are asked of all documents at once. */
const texts = (): Selection[] => [...state.textMatches.value].flatMap(([key, { documents }]) => (state.filters.value.has(key) && documents ? [documents] : []));

export const isFiltering = (): boolean => active.value.length > 0 || texts().length > 0;

function mask(tile: LoadedTile, columns: readonly Float32Array[]): Uint8Array {
  const passed = new Uint8Array(tile.count).fill(1);
  active.value.forEach(({ passes }, k) => {
    const own = columns[k];
    for (let i = 0; i < tile.count; i++) if (passed[i] && !passes(own[i])) passed[i] = 0;
  });
  for (const documents of texts()) {
    const own = maskOf(documents.get(tile.generation.number), tile.info.first, tile.count);
    for (let i = 0; i < tile.count; i++) passed[i] &= own[i];
  }
  return passed;
}

/** 1 for each point of a tile that passes all filters. */
export async function passing(tile: LoadedTile): Promise<Uint8Array> {
  return mask(tile, await Promise.all(active.value.map(({ column }) => values.value!.read(tile, column))));
}

/** Names of files that could not be read: those points are shown. */
const failed = new Set<string>();

/** The same, of what is here; null until then. What is missing is asked for, and `come` called when it is here. */
export function passingNow(tile: LoadedTile, come: () => void): Uint8Array | null {
  const found = active.value.map(({ column }) => values.value!.now(tile, column));
  if (found.every((one) => one !== undefined)) return mask(tile, found);
  found.forEach((one, k) => {
    const { column } = active.value[k];
    const name = `${tile.generation.number}/${column.id}/${tile.info.key}`;
    if (one || asked.has(name) || failed.has(name)) return;
    asked.add(name);
    values
      .value!.read(tile, column)
      .catch((error: Error) => {
        failed.add(name);
        state.report(`Filter by ${column.name}`, error);
      })
      .finally(() => {
        asked.delete(name);
        come();
      });
  });
  return null;
}
const asked = new Set<string>();

/** Ask again for what could not be read. */
export const retryFilters = (): void => failed.clear();
