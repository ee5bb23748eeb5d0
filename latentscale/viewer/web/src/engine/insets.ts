/** Which part of the window is free of what lies over the map: from rectangles that were measured. */

import type { Rect } from "./label-placement";

/** At most so wide, the page is that of a phone; `style.css` has the same number. */
export const NARROW = 800;
/** Between the map's body and what lies over it. */
const AIR = 20;
/** What is as wide lies above or below the map, not beside it. */
const ACROSS = 0.6;

export type Side = "left" | "right" | "bottom";

/** Something that lies over the map. */
export interface Cover extends Rect {
  /** The side that it belongs to; null if only labels keep clear of it. */
  side: Side | null;
  /** Whether it is a panel: buttons move out of the way of one. */
  panel: boolean;
}

export interface Insets {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

interface Size {
  width: number;
  height: number;
}

const isAcross = (cover: Rect, { width }: Size): boolean => cover.right - cover.left > ACROSS * width;

/** How much of each side of the window lies under what belongs to that side, with some air. */
export function insetsOf(size: Size, covers: readonly Cover[]): Insets {
  const narrow = size.width <= NARROW;
  const clear = clearOfPanels(size, covers);
  const insets = { left: AIR, right: AIR, top: narrow ? 72 : 36, bottom: 48 };
  for (const cover of covers) {
    if (cover.side === null || (narrow && !cover.panel)) continue;
    if (cover.side === "bottom") insets.bottom = Math.max(insets.bottom, size.height - cover.top + AIR);
    else if (!isAcross(cover, size)) {
      if (cover.side === "left") insets.left = Math.max(insets.left, cover.right + AIR);
      else {
        // Buttons are on their way out of the way of a panel that has just opened.
        const edge = cover.panel ? size.width - cover.left : (clear ?? size.width - cover.right) + cover.right - cover.left;
        insets.right = Math.max(insets.right, edge + AIR);
      }
      // On a small window a panel of the right side is a sheet at the bottom; one of the left may cover the map.
    } else if (cover.side === "right") insets.bottom = Math.max(insets.bottom, size.height - cover.top + AIR);
  }
  return insets;
}

/** On a small window: where the sheets at the bottom begin, so far from the top there is room for buttons; null if there is none. */
export function topOfSheets(size: Size, covers: readonly Cover[]): number | null {
  if (size.width > NARROW) return null;
  const sheets = covers.filter(({ panel, side }) => panel && (side === "right" || side === "bottom"));
  return sheets.length ? Math.min(...sheets.map(({ top }) => top)) : null;
}

/** How far from the right edge buttons are clear of the panels of that side; null if there is none. */
export function clearOfPanels(size: Size, covers: readonly Cover[]): number | null {
  const beside = covers.filter((cover) => cover.panel && cover.side === "right" && !isAcross(cover, size));
  return beside.length ? size.width - Math.min(...beside.map((cover) => cover.left)) + 12 : null;
}
