/** Sends the selection to the notebook server that shows this page. */

import { effect } from "@preact/signals";
import { sizeOf } from "./engine/selection";
import * as state from "./state";
import { rowIdsOf } from "./ui/save";

/** Maximum number of row ids sent; of larger selections only the count is. */
const MAX_ROW_IDS = 1_000_000;
const PROBLEM = "The notebook";

/** Report every change of the selection to the server, which issued the token to this page. */
export function reportSelections(token: string): void {
  const page = Math.random().toString(36);
  // The initial empty selection is not sent: it would replace what another page of this map has reported.
  let reported: state.Selected | null = null;
  let latest = 0;

  effect(() => {
    const selected = state.selected.value;
    if (selected === reported) return;
    reported = selected;
    send(selected, ++latest).catch((error: Error) =>
      state.report(PROBLEM, new Error(`The selection could not be sent (${error.message}): run the cell that shows this map again.`)),
    );
  });

  async function send(selected: state.Selected | null, number: number): Promise<void> {
    const count = selected ? sizeOf(selected.documents) : 0;
    const rowIds = selected && count <= MAX_ROW_IDS ? await rowIdsOf(selected.documents) : [];
    if (number !== latest) return;
    const answer = await fetch("/selection", {
      method: "POST",
      credentials: "omit",
      headers: { "Content-Type": "application/json", "X-LatentScale-Token": token },
      body: JSON.stringify({ page, number, count, row_ids: rowIds }),
    });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    if (!state.problems.value.has(PROBLEM)) return;
    const problems = new Map(state.problems.value);
    problems.delete(PROBLEM);
    state.problems.value = problems;
  }
}
