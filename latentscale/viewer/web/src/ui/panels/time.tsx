/** Registers the time panel at the bottom; its script is loaded on first use. */

import { signal } from "@preact/signals";
import * as state from "../../state";
import { lazy } from "../lazy";
import { register } from "../panel-registry";

/** Whether a column may be temporal, by kind and name only; the panel's script checks values. */
const mayHaveTime = () => state.index.value?.colours.some(({ kind, name }) => kind === "dates" || /year|jahr|ann[eé]e|anno/i.test(name)) ?? false;

const kept = signal("");

register({
  id: "time",
  title: "Over time",
  side: "bottom",
  open: false,
  Component: lazy("Over time", async () => {
    const { TimePanel } = await import("../time/time-panel");
    return () => <TimePanel kept={kept} />;
  }),
  available: mayHaveTime,
  icon: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14M10 6v4.2l2.8 1.8",
  key: { name: "w", does: "time: documents over time, a range of it, and its animation" },
  kept,
});
