/** Registers the filters panel; its script is loaded on first use. */

import * as state from "../../state";
import { lazy } from "../lazy";
import { register } from "../panel-registry";

register({
  id: "filters",
  title: "Filters",
  side: "right",
  open: false,
  Component: lazy("Filters", async () => (await import("../filter/filters-panel")).FiltersPanel),
  available: () => (state.index.value?.columns.length ?? 0) > 0,
  icon: "M3 4.5h14l-5.5 6.5v5l-3-1.5V11z",
  key: { name: "f", does: "filter by columns, several at once" },
});
