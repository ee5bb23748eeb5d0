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
  /** Whether it is a table, which scrolls by itself. */
  wide?: boolean;
  children: ComponentChildren;
}

export function PanelFrame({ name, header, closes, onClose, wide = false, children }: Frame) {
  return (
    <aside class={`card framed ${wide ? "wide" : ""}`} aria-label={name}>
      <header>
        <span class="muted">{header}</span>
        <button class="icon" aria-label={closes} title={`${closes} (Esc)`} onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      {wide ? (
        children
      ) : (
        <div class="scroll" tabIndex={0}>
          {children}
        </div>
      )}
    </aside>
  );
}
