/** Props of filter editors: the current filter, and its setter. */

import type { ColumnFilter } from "../../engine/filters";

export interface FilterProps<F extends ColumnFilter> {
  filter: F | null;
  set(filter: F | null): void;
}
