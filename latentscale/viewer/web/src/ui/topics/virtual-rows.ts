/** List virtualisation: only visible rows are rendered. */

import { useEffect, useState } from "preact/hooks";
import type { RefObject } from "preact";

/** Rows rendered beyond the visible ones on each side. */
const MARGIN = 6;

export interface VisibleRows {
  /** First rendered row, and one after the last. */
  first: number;
  last: number;
  /** Number of rows that fit if the list grows to the end of its side. */
  room: number;
  /** Scroll a row into view, with `above` rows before it if it was not visible. */
  show(row: number, above?: number): void;
  onScroll(): void;
}

/** Which of `count` rows of `height` px to render in a scrolling list. */
export function useVisibleRows(box: RefObject<HTMLElement | null>, count: number, height: number): VisibleRows {
  const [top, setTop] = useState(0);
  const [size, setSize] = useState({ height: 400, room: 14 });
  useEffect(() => {
    const measure = () => {
      const list = box.current;
      if (!list) return;
      const [panel, side] = [list.closest(".panel"), list.closest(".side")];
      const free = panel && side ? side.getBoundingClientRect().bottom - panel.getBoundingClientRect().bottom : 0;
      const room = Math.floor((list.clientHeight + Math.max(0, free)) / height);
      setSize((old) => (old.height === list.clientHeight && old.room === room ? old : { height: list.clientHeight, room }));
    };
    const observer = new ResizeObserver(measure);
    observer.observe(box.current!);
    addEventListener("resize", measure);
    return () => {
      observer.disconnect();
      removeEventListener("resize", measure);
    };
  }, [height]);
  const onScroll = () => setTop(box.current!.scrollTop);
  // Clamp the offset after the list has become shorter.
  const offset = Math.min(top, Math.max(0, count * height - size.height));
  return {
    first: Math.max(0, Math.floor(offset / height) - MARGIN),
    last: Math.min(count, Math.ceil((offset + size.height) / height) + MARGIN),
    room: size.room,
    show(row, above = 0) {
      const list = box.current!;
      const at = row * height;
      if (at < list.scrollTop) list.scrollTop = at - above * height;
      else if (at + height > list.scrollTop + list.clientHeight) list.scrollTop = above ? at - above * height : at + height - list.clientHeight;
      onScroll();
    },
    onScroll,
  };
}
