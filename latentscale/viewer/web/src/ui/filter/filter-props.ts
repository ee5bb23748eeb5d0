/** What each kind of filter gets: the one that is set, and how to set another. */

import type { ColumnFilter } from "../../engine/filters";

export interface FilterProps<F extends ColumnFilter> {
  filter: F | null;
  set(filter: F | null): void;
}
