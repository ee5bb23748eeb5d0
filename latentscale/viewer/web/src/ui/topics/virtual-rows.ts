/** A list of which only the rows that are seen are there: of ten thousand, some thirty. */

import { useEffect, useState } from "preact/hooks";
import type { RefObject } from "preact";

/** Rows that are drawn above and below what is seen. */
const MARGIN = 6;

export interface VisibleRows {
  /** The first row that is drawn, and the one after the last. */
  first: number;
  last: number;
  /** Rows for which there is room, if the list may grow as far as its side of the window goes. */
  room: number;
  /** Scroll so that a row is wholly seen, with `above` rows before it where it was not. */
  show(row: number, above?: number): void;
  onScroll(): void;
}

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
  // A list that became shorter has less to scroll.
  const from = Math.min(top, Math.max(0, count * height - size.height));
  return {
    first: Math.max(0, Math.floor(from / height) - MARGIN),
    last: Math.min(count, Math.ceil((from + size.height) / height) + MARGIN),
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
