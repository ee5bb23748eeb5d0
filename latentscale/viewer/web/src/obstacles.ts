/** What lies over the map, measured: whatever changes its size or moves is measured again. */

import { signal } from "@preact/signals";
import type { Cover, Side } from "./engine/insets";

const observed = new Map<Element, Pick<Cover, "side" | "panel">>();
let observer: ResizeObserver | undefined;

export const covers = signal<readonly Cover[]>([]);

function measure(): void {
  const found: Cover[] = [];
  for (const [element, what] of observed) {
    const { left, top, right, bottom } = element.getBoundingClientRect();
    if (right > left && bottom > top) found.push({ left, top, right, bottom, ...what });
  }
  if (JSON.stringify(found) !== JSON.stringify(covers.value)) covers.value = found;
}

/** Wait until the panels have followed the state as it is now, and are measured. */
export const settled = (): Promise<void> =>
  // Not a frame: a page in the background has none.
  new Promise((done) => setTimeout(done)).then(measure);

/**
 * A `ref` for an element that labels keep clear of, and the map's body too if it has a side. Each time that its
 * component is drawn, a new one takes its place, and the element is measured again: it may have moved.
 */
export function cover(side: Side | null, panel = false): (element: Element | null) => void {
  let own: Element | null = null;
  return (element) => {
    if (!observer) {
      observer = new ResizeObserver(measure);
      // Sizes tell nothing of what only moves.
      addEventListener("resize", measure);
      addEventListener("transitionend", measure);
    }
    if (element) {
      observed.set((own = element), { side, panel });
      observer.observe(element);
    } else if (own) {
      observed.delete(own);
      observer.unobserve(own);
      void settled();
    }
  };
}
