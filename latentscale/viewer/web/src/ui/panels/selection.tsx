/** Registers the selection panel; its script is loaded on first use. */

import { lazy } from "../lazy";
import { register } from "../panel-registry";

register({
  id: "selection",
  title: "Selection",
  side: "right",
  open: false,
  Component: lazy("Selection", async () => (await import("../select/selection-panel")).SelectionPanel),
  icon: "M4 4h3M9 4h3M14 4h2v2M16 8v3M16 13v3h-2M12 16H9M7 16H4v-2M4 12V9M4 7V4",
  key: { name: "s", does: "select documents, and what is done with them" },
});
