/** Hint on the active selection tool, with a button to leave it. */

import { obstacleRef } from "../obstacles";
import { sizeOf } from "../engine/selection";
import * as state from "../state";
import { plural } from "./words";

const SAYS = {
  replace: "select",
  add: "add to the selection",
  subtract: "take off the selection",
  intersect: "keep of the selection",
} as const;

export function ToolHint() {
  const tool = state.tool.value;
  if (!tool) return null;
  const selected = state.selected.value;
  return (
    <div class="card tool-hint" role="status" ref={obstacleRef(null)}>
      <span>
        Draw a {tool} around documents to {SAYS[state.operation.value]}
        {selected ? `: ${plural(sizeOf(selected.documents), "document")} now` : ""}
      </span>
      <button class="link" onClick={() => (state.tool.value = null)}>
        Done
      </button>
    </div>
  );
}
