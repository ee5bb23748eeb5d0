/** Registers the tags panel; its script is loaded on first use. */

import { lazy } from "../lazy";
import { register } from "../panel-registry";

register({
  id: "tags",
  title: "Tags",
  side: "right",
  open: false,
  Component: lazy("Tags", async () => (await import("../tags/tags-panel")).TagsPanel),
  icon: "M3.5 4v5.5l7 7 6-6-7-7H4a.5.5 0 0 0-.5.5zM7 7v.1",
  key: { name: "g", does: "tags: name what is selected, and save it for a job" },
});
