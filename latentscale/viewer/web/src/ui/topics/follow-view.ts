/** Keeps the topic tree in sync with the view: which topics are in view, and which are expanded for it. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { RefObject } from "preact";
import { countsOf, topicsToOpen, type Topic, type TopicTree } from "../../engine/topic-tree";
import * as state from "../../state";

interface FollowedView {
  /** Drawn documents in view by topic; null until counted. */
  seen: ReadonlyMap<Topic, number> | null;
  opened: ReadonlySet<string>;
}

/**
 * The topics that the view expands. Not updated while the pointer or keyboard focus is in the list, whose rows would
 * move. `room` is the number of visible rows.
 */
export function useFollowView(box: RefObject<HTMLElement | null>, tree: TopicTree, least: number, room: number, follows: boolean): FollowedView {
  const counted = state.clustersInView.value;
  const [step, setStep] = useState<FollowedView>({ seen: null, opened: new Set() });
  const isStale = useRef(false);
  useEffect(() => {
    state.treeShown.value = true;
    return () => void (state.treeShown.value = false);
  }, []);
  const update = () => {
    isStale.current = false;
    const seen = counted && countsOf(tree, counted);
    // Before anything is drawn, as if the whole map were in view.
    const all = seen ?? new Map([...tree.byRef.values()].map((topic) => [topic, topic.cluster.size]));
    const wanted = topicsToOpen(tree, all, room, least);
    setStep((old) => ({ seen, opened: follows && !same(wanted, old.opened) ? wanted : old.opened }));
  };
  useEffect(() => {
    const list = box.current!;
    if (step.seen !== null && (list.matches(":hover") || list.querySelector(":focus-visible"))) isStale.current = true;
    else update();
    const catchUp = () => {
      if (isStale.current && !list.matches(":hover")) update();
    };
    list.addEventListener("pointerleave", catchUp);
    list.addEventListener("focusout", catchUp);
    return () => {
      list.removeEventListener("pointerleave", catchUp);
      list.removeEventListener("focusout", catchUp);
    };
  }, [counted, tree, least, room, follows]);
  return step;
}

function same(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((ref) => b.has(ref));
}
