/** The card of the hovered document, and summaries of documents. */

import { obstacles } from "../obstacles";
import type { Document } from "../engine/generation";
import * as state from "../state";
import { ClusterPath } from "./swatch";
import { reflowed, shortened, valueText } from "./words";

const EXCERPT_LENGTH = 420;
/** Width of the card in px, including margins, as in `style.css`. */
const CARD_WIDTH = 392;

/** The document's text, or an empty string. */
export function textOf(document: Document): string {
  const name = state.index.value?.text ?? null;
  const found = document.values.find(([column]) => column === name) ?? null;
  return found ? valueText(found[1]) : "";
}

/** The document's title, from a column whose name suggests one. */
export function titleOf(document: Document): string {
  const found = document.values.find(([column, value]) => /^(title|name|headline|subject|package)$/i.test(column) && value);
  return found ? valueText(found[1]) : "";
}

export function HoverCard() {
  const place = state.hoverCard.value;
  const hovered = state.hovered.value;
  if (!place || !hovered) return null;
  const placedLeft = isPlacedLeft(place.left);
  const placedAbove = place.top > innerHeight - 280;
  const style = {
    left: placedLeft ? "auto" : `${place.left + 16}px`,
    right: placedLeft ? `${innerWidth - place.left + 16}px` : "auto",
    top: placedAbove ? "auto" : `${place.top + 14}px`,
    bottom: placedAbove ? `${innerHeight - place.top + 14}px` : "auto",
  };
  const { document } = hovered;
  const text = document ? textOf(document) : "";
  const title = document ? titleOf(document) : "";
  return (
    <div class="card hover-card" style={style} role="status">
      <ClusterPath id={hovered.cluster} />
      {title && <strong class="hover-title" dir="auto">{title}</strong>}
      {document ? (
        <p dir="auto">{text ? shortened(reflowed(text), EXCERPT_LENGTH) : title ? "" : <FirstValues document={document} />}</p>
      ) : (
        <p class="muted">{hovered.failed ? "The document could not be read." : "Reading…"}</p>
      )}
    </div>
  );
}

/** Whether the card belongs on the left of its point: on the right it would cover a panel or leave the window. */
function isPlacedLeft(left: number): boolean {
  const sidePanels = obstacles.value.filter((one) => one.panel && one.right - one.left < innerWidth / 2);
  const leftEdge = Math.max(0, ...sidePanels.filter((one) => one.side === "left").map((one) => one.right));
  const rightEdge = Math.min(innerWidth, ...sidePanels.filter((one) => one.side === "right").map((one) => one.left));
  return rightEdge - left < CARD_WIDTH && left - leftEdge > rightEdge - left;
}

/** The first few values of a document without a text column. */
export function FirstValues({ document }: { document: Document }) {
  return (
    <>
      {document.values.slice(0, 3).map(([column, value]) => (
        <span class="brief" key={column}>
          <span class="muted">{column} </span>
          {shortened(valueText(value), 120)}
        </span>
      ))}
    </>
  );
}
