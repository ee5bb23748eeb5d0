/** Common frame of panels: a header with a close button, and scrolling content. */

import type { ComponentChildren } from "preact";
import { Icon } from "./icon";

interface Frame {
  /** Accessible name. */
  name: string;
  header: ComponentChildren;
  /** Label of the close button. */
  closes: string;
  onClose(): void;
  /** Whether the content is a table with its own scrolling. */
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
