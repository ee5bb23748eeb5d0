/** Registers the cluster edits panel; its script is loaded on first use. */

import { NARROW_WIDTH } from "../../engine/insets";
import * as state from "../../state";
import { lazy } from "../lazy";
import { register } from "../panel-registry";

register({
  id: "edits",
  title: "Edits of clusters",
  side: "right",
  open: false,
  Component: lazy("Edits", async () => (await import("../edits/edits-panel")).EditsPanel),
  // On a phone toolbar space is limited: the button appears with the first edit.
  available: () => state.labels.value !== null && !state.manifest.value?.preview && (innerWidth > NARROW_WIDTH || state.edited.value !== null),
  icon: "M4 16l.8-3.4L13.6 3.8l2.6 2.6-8.8 8.8zM12 5.4L14.6 8",
  key: { name: "e", does: "edits: what you renamed, described or hid, as a file" },
});
