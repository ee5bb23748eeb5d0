/** Registers the panel about the map; its script is loaded on first use. */

import { lazy } from "../lazy";
import { register } from "../panel-registry";
import { about, ID, quality, TITLE } from "../quality/about";

register({
  id: ID,
  title: TITLE,
  side: "right",
  open: false,
  Component: lazy(TITLE, async () => (await import("../quality/about-panel")).AboutPanel),
  available: () => quality() !== null || about().length > 0,
  icon: "M3 16.5h14M5.5 13V9M10 13V4M14.5 13V7",
  key: { name: "q", does: "how far to trust the map, and how it was made" },
});
