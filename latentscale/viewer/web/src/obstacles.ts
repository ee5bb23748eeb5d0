/** Bounding boxes of the elements that cover the map, measured again when they resize or move. */

import { signal } from "@preact/signals";
import type { Obstacle, Side } from "./engine/insets";

const observed = new Map<Element, Pick<Obstacle, "side" | "panel">>();
let observer: ResizeObserver | undefined;

export const obstacles = signal<readonly Obstacle[]>([]);

function measureAll(): void {
  const measured: Obstacle[] = [];
  for (const [element, what] of observed) {
    const { left, top, right, bottom } = element.getBoundingClientRect();
    if (right > left && bottom > top) measured.push({ left, top, right, bottom, ...what });
  }
  if (JSON.stringify(measured) !== JSON.stringify(obstacles.value)) obstacles.value = measured;
}

/** Resolve when the panels have been rendered for the current state and measured. */
export const layoutSettled = (): Promise<void> =>
  // Not requestAnimationFrame, which does not run in background tabs.
  new Promise((done) => setTimeout(done)).then(measureAll);

/**
 * A `ref` callback for an element that labels avoid, and that the view is inset from if it has a side. A re-render
 * installs a new callback, which measures the element again: it may have moved.
 */
export function obstacleRef(side: Side | null, panel = false): (element: Element | null) => void {
  let current: Element | null = null;
  return (element) => {
    if (!observer) {
      observer = new ResizeObserver(measureAll);
      // ResizeObserver does not report moves.
      addEventListener("resize", measureAll);
      addEventListener("transitionend", measureAll);
    }
    if (element) {
      observed.set((current = element), { side, panel });
      observer.observe(element);
    } else if (current) {
      observed.delete(current);
      observer.unobserve(current);
      void layoutSettled();
    }
  };
}
