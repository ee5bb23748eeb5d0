/** Panel layout: a column at each side of the window, and a strip at the bottom. */

import { obstacleRef } from "../obstacles";
import { isOpen, panels, type Panel } from "./panel-registry";

const SIDES = ["left", "right", "bottom"] as const;

export function PanelSlots() {
  return SIDES.map((side) => (
    <div class={`side ${side}`} key={side}>
      {panels()
        .filter((panel) => panel.side === side)
        .map((panel) => (
          <Slot key={panel.id} panel={panel} />
        ))}
    </div>
  ));
}

function Slot({ panel }: { panel: Panel }) {
  const open = isOpen(panel);
  const Shown = open ? panel.Component : panel.Closed;
  return (
    <div class={`slot ${open ? "" : "closed"}`} data-panel={panel.id} ref={obstacleRef(open ? panel.side : null, open)}>
      {Shown && <Shown />}
    </div>
  );
}
