/** What is selected on a page that a notebook shows is told to the process that serves it. */

import { effect } from "@preact/signals";
import { sizeOf } from "./engine/selection";
import * as state from "./state";
import { rowIdsOf } from "./ui/save";

/** Documents of a selection at most: of more, only their number is told. */
const MOST_TOLD = 1_000_000;
const WHAT = "The notebook";

/** Tell the server of this page; it knows the token, which it gave to this page alone. */
export function tell(token: string): void {
  const page = Math.random().toString(36);
  // What is selected at first is nothing, and what another page of this map has told stays.
  let told: state.Selected | null = null;
  let latest = 0;

  effect(() => {
    const selected = state.selected.value;
    if (selected === told) return;
    told = selected;
    say(selected, ++latest).catch((error: Error) =>
      state.report(WHAT, new Error(`What is selected here did not reach it (${error.message}): run the cell that shows this map again.`)),
    );
  });

  async function say(selected: state.Selected | null, number: number): Promise<void> {
    const count = selected ? sizeOf(selected.documents) : 0;
    const rowIds = selected && count <= MOST_TOLD ? await rowIdsOf(selected.documents) : [];
    if (number !== latest) return;
    const answer = await fetch("/selection", {
      method: "POST",
      credentials: "omit",
      headers: { "Content-Type": "application/json", "X-LatentScale-Token": token },
      body: JSON.stringify({ page, number, count, row_ids: rowIds }),
    });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    if (!state.problems.value.has(WHAT)) return;
    const problems = new Map(state.problems.value);
    problems.delete(WHAT);
    state.problems.value = problems;
  }
}
