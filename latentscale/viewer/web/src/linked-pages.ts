/** Pages side by side: what is pointed at, pinned or selected in one is so in the others, by its row id. */

import { effect } from "@preact/signals";
import { commands } from "./commands";
import { locate, type Generation } from "./engine/generation";
import { sizeOf } from "./engine/selection";
import * as state from "./state";
import { located, MOST_TAGGED } from "./tagging";
import { rowIdsOf } from "./ui/save";

/** What a page says; a part that it leaves out has not changed. */
interface Said {
  from: string;
  /** The page that alone is meant. */
  to?: string;
  /** What a page that has come later asks for: nothing was said to it before. */
  asks?: ("pinned" | "selected")[];
  hovered?: number | null;
  pinned?: number | null;
  selected?: number[] | null;
}

/** Join the pages of a name; those of other windows have others. */
export function link(name: string, generations: readonly Generation[]): void {
  const channel = new BroadcastChannel(`latentscale ${name}`);
  const own = Math.random().toString(36);
  // What is known to all: it is said once, and what was heard is not said again.
  const known = { hovered: null as number | null, pinned: null as number | null, selected: null as state.Selected | null };
  const say = (said: Omit<Said, "from">) => channel.postMessage({ from: own, ...said } satisfies Said);

  effect(() => {
    const hovered = state.hovered.value?.document?.rowId ?? null;
    if (hovered === known.hovered) return;
    known.hovered = hovered;
    say({ hovered });
  });
  effect(() => {
    const pinned = state.pinned.value?.document.rowId ?? null;
    if (pinned === known.pinned) return;
    known.pinned = pinned;
    say({ pinned });
  });
  effect(() => {
    const selected = state.selected.value;
    if (selected === known.selected) return;
    known.selected = selected;
    if (!selected) return say({ selected: null });
    if (sizeOf(selected.documents) > MOST_TAGGED) {
      state.notice.value = `More than ${MOST_TAGGED.toLocaleString("en")} documents: they are selected on this map alone.`;
      return;
    }
    rowIdsOf(selected.documents)
      .then((rowIds) => state.selected.value === selected && say({ selected: rowIds }))
      .catch((error: Error) => state.report("The other map", error));
  });

  channel.addEventListener("message", ({ data }: MessageEvent<Said>) => {
    if (data.from !== own && (data.to ?? own) === own) hear(data).catch((error: Error) => state.report("The other map", error));
  });

  const asks = (["pinned", "selected"] as const).filter((part) => known[part] === null);
  if (asks.length) say({ asks });

  async function hear({ hovered, pinned, selected }: Said): Promise<void> {
    if (hovered !== undefined) {
      const row = hovered === null ? null : await locate(generations, hovered);
      commands.point(row);
    }
    if (pinned === null) {
      known.pinned = null;
      state.pinned.value = null;
    } else if (pinned !== undefined && (await locate(generations, pinned))) {
      known.pinned = pinned;
      commands.pinRow(pinned);
    }
    if (selected !== undefined) {
      known.selected = selected && { documents: await located(selected), part: false };
      state.setAside.value = false;
      state.selected.value = known.selected;
    }
  }
}
