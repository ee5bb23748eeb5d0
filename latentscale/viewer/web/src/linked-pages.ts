/** Linked pages: hovering, pinning and selecting in one is repeated in the others, by row id. */

import { effect } from "@preact/signals";
import { commands } from "./commands";
import { locate, type Generation } from "./engine/generation";
import { sizeOf } from "./engine/selection";
import * as state from "./state";
import { locateRows, MAX_TAGGED } from "./tagging";
import { rowIdsOf } from "./ui/save";

/** A message between pages; omitted fields are unchanged. */
interface PageMessage {
  from: string;
  /** The only recipient, if set. */
  to?: string;
  /** State that a newly opened page requests from the others. */
  asks?: ("pinned" | "selected")[];
  hovered?: number | null;
  pinned?: number | null;
  selected?: number[] | null;
}

/** Join the pages that share a channel name; each window uses its own. */
export function linkPages(name: string, generations: readonly Generation[]): void {
  const channel = new BroadcastChannel(`latentscale ${name}`);
  const pageId = Math.random().toString(36);
  // State already shared: sent once, and not echoed when received.
  const shared = { hovered: null as number | null, pinned: null as number | null, selected: null as state.Selected | null };
  const send = (message: Omit<PageMessage, "from">) => channel.postMessage({ from: pageId, ...message } satisfies PageMessage);

  effect(() => {
    const hovered = state.hovered.value?.document?.rowId ?? null;
    if (hovered === shared.hovered) return;
    shared.hovered = hovered;
    send({ hovered });
  });
  effect(() => {
    const pinned = state.pinned.value?.document.rowId ?? null;
    if (pinned === shared.pinned) return;
    shared.pinned = pinned;
    send({ pinned });
  });
  effect(() => {
    const selected = state.selected.value;
    if (selected === shared.selected) return;
    shared.selected = selected;
    if (!selected) return send({ selected: null });
    if (sizeOf(selected.documents) > MAX_TAGGED) {
      state.notice.value = `More than ${MAX_TAGGED.toLocaleString("en")} documents: they are selected on this map alone.`;
      return;
    }
    rowIdsOf(selected.documents)
      .then((rowIds) => state.selected.value === selected && send({ selected: rowIds }))
      .catch((error: Error) => state.report("The other map", error));
  });

  channel.addEventListener("message", ({ data }: MessageEvent<PageMessage>) => {
    if (data.from !== pageId && (data.to ?? pageId) === pageId) receive(data).catch((error: Error) => state.report("The other map", error));
  });

  const missing = (["pinned", "selected"] as const).filter((part) => shared[part] === null);
  if (missing.length) send({ asks: missing });

  async function receive({ hovered, pinned, selected }: PageMessage): Promise<void> {
    if (hovered !== undefined) {
      const row = hovered === null ? null : await locate(generations, hovered);
      commands.point(row);
    }
    if (pinned === null) {
      shared.pinned = null;
      state.pinned.value = null;
    } else if (pinned !== undefined && (await locate(generations, pinned))) {
      shared.pinned = pinned;
      commands.pinRow(pinned);
    }
    if (selected !== undefined) {
      shared.selected = selected && { documents: await locateRows(selected), part: false };
      state.selectionSuspended.value = false;
      state.selected.value = shared.selected;
    }
  }
}
