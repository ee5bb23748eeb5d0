/** Selecting categories of a column sets an ordinary filter. */

import { categoryNames } from "../engine/column-names";
import { keyOf, withFilter } from "../engine/filters";
import type { CategoryColumn } from "../engine/format";
import { ADDED } from "../engine/merge";
import * as state from "../state";

export function chooseCategories(column: CategoryColumn, codes: Iterable<number>): void {
  const names = categoryNames(codes, column);
  state.filters.value = withFilter(state.filters.value, keyOf(column), names.length ? { kind: "categories", names } : null);
}

/** The column of generations, if the map has several. */
export const addedEntry = (): CategoryColumn | undefined =>
  state.index.value?.colours.find((entry) => entry.id === ADDED) as CategoryColumn | undefined;
