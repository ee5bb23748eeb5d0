/** The part of the window that no obstacle covers. */

import type { Rect } from "./label-placement";

/** Breakpoint of the phone layout, as in `style.css`. */
export const NARROW_WIDTH = 800;
/** px between the map and obstacles. */
const MARGIN = 20;
/** Obstacles wider than this share of the window are above or below the map, not beside it. */
const FULL_WIDTH = 0.6;

export type Side = "left" | "right" | "bottom";

/** An element that covers part of the map. */
export interface Obstacle extends Rect {
  /** The side that it insets; null if only labels avoid it. */
  side: Side | null;
  /** Whether it is a panel, which the toolbar moves away from. */
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

const isFullWidth = (cover: Rect, { width }: Size): boolean => cover.right - cover.left > FULL_WIDTH * width;

/** Insets of the view on each side of the window, including a margin. */
export function insetsOf(size: Size, obstacles: readonly Obstacle[]): Insets {
  const narrow = size.width <= NARROW_WIDTH;
  const clear = buttonInset(size, obstacles);
  const insets = { left: MARGIN, right: MARGIN, top: narrow ? 72 : 36, bottom: 48 };
  for (const obstacle of obstacles) {
    if (obstacle.side === null || (narrow && !obstacle.panel)) continue;
    if (obstacle.side === "bottom") insets.bottom = Math.max(insets.bottom, size.height - obstacle.top + MARGIN);
    else if (!isFullWidth(obstacle, size)) {
      if (obstacle.side === "left") insets.left = Math.max(insets.left, obstacle.right + MARGIN);
      else {
        // The toolbar may still be moving away from a panel that has just opened: use its final position.
        const edge = obstacle.panel ? size.width - obstacle.left : (clear ?? size.width - obstacle.right) + obstacle.right - obstacle.left;
        insets.right = Math.max(insets.right, edge + MARGIN);
      }
      // On a narrow window a panel of the right side is a bottom sheet; one of the left may cover the map.
    } else if (obstacle.side === "right") insets.bottom = Math.max(insets.bottom, size.height - obstacle.top + MARGIN);
  }
  return insets;
}

/** On a narrow window, the y coordinate at which bottom sheets begin; null if there is none. */
export function sheetTop(size: Size, obstacles: readonly Obstacle[]): number | null {
  if (size.width > NARROW_WIDTH) return null;
  const sheets = obstacles.filter(({ panel, side }) => panel && (side === "right" || side === "bottom"));
  return sheets.length ? Math.min(...sheets.map(({ top }) => top)) : null;
}

/** Distance from the right edge at which the toolbar clears the panels there; null if there is none. */
export function buttonInset(size: Size, obstacles: readonly Obstacle[]): number | null {
  const rightPanels = obstacles.filter((cover) => cover.panel && cover.side === "right" && !isFullWidth(cover, size));
  return rightPanels.length ? size.width - Math.min(...rightPanels.map((cover) => cover.left)) + 12 : null;
}
