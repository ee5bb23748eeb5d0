/** What the pointer does while it draws, and the way out. */

import { cover } from "../covers";
import * as state from "../state";

const SAYS = {
  replace: "select",
  add: "add to the selection",
  subtract: "take off the selection",
  intersect: "keep of the selection",
} as const;

export function ToolHint() {
  const tool = state.tool.value;
  if (!tool) return null;
  return (
    <div class="card tool-hint" role="status" ref={cover(null)}>
      <span>
        Draw a {tool} around documents to {SAYS[state.operation.value]}
      </span>
      <button class="link" onClick={() => (state.tool.value = null)}>
        Done
      </button>
    </div>
  );
}
