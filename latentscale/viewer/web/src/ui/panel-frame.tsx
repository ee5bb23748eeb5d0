/** The look that panels share: a header with a button that closes it, and what scrolls below. */

import type { ComponentChildren } from "preact";
import { Icon } from "./icon";

interface Frame {
  /** What a screen reader calls it. */
  name: string;
  header: ComponentChildren;
  /** What the button says that closes it. */
  closes: string;
  onClose(): void;
  children: ComponentChildren;
}

export function PanelFrame({ name, header, closes, onClose, children }: Frame) {
  return (
    <aside class="card framed" aria-label={name}>
      <header>
        <span class="muted">{header}</span>
        <button class="icon" aria-label={closes} title={`${closes} (Esc)`} onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      <div class="scroll" tabIndex={0}>
        {children}
      </div>
    </aside>
  );
}
