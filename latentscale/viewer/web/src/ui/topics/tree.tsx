/** The topic tree: clusters of all layers, in sync with the view, for pointer and keyboard. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { LabelsFile } from "../../engine/format";
import { listedTopics, topicTree, typeAhead, type Topic } from "../../engine/topic-tree";
import * as state from "../../state";
import { Icon } from "../icon";
import { count } from "../words";
import { useFollowView } from "./follow-view";
import { toggleTopic, nameOf, NOISE, refOf, TreeItem, type Listed } from "./item";
import { useSearch, searchedWords } from "./search";
import { useVisibleRows } from "./virtual-rows";

const EYE = "M2.5 10S5.2 5 10 5s7.5 5 7.5 5-2.7 5-7.5 5-7.5-5-7.5-5M10 7.9a2.1 2.1 0 1 0 0 4.2 2.1 2.1 0 0 0 0-4.2";
const UNFOLD = "M6.5 7.5L10 4l3.5 3.5M6.5 12.5L10 16l3.5-3.5";
const FOLD = "M6.5 4L10 7.5 13.5 4M6.5 16l3.5-3.5 3.5 3.5";
/** Row height in px; larger for touch. */
const ROW = matchMedia("(pointer: coarse)").matches ? 44 : 28;
/** Pause in ms after which typing starts a new type-ahead. */
const TYPE_AHEAD_MS = 700;

export function Topics() {
  const labels = state.labels.value;
  if (labels) return <Tree labels={labels} />;
  return <p class="muted small">{state.problems.value.has("Clusters") ? "The clusters could not be read." : "Reading the clusters…"}</p>;
}

type Turned = ReadonlyMap<string, boolean>;

function Tree({ labels }: { labels: LabelsFile }) {
  const box = useRef<HTMLDivElement>(null);
  const tree = useMemo(() => topicTree(labels.clusters), [labels]);
  const parents = useMemo(() => [...tree.byRef.values()].filter(({ children }) => children.length > 0), [tree]);
  const search = useSearch(tree);
  const [follows, setFollows] = useState(true);
  /** Topics that the user expanded or collapsed; separately during a search, until the next one. */
  const [turned, setTurned] = useState<Turned>(new Map());
  const [turnedInSearch, setTurnedInSearch] = useState<Turned>(new Map());
  useEffect(() => setTurnedInSearch(new Map()), [search]);
  const [room, setRoom] = useState(14);
  // Labels above the hue layer are not on the map: the tree is always open down to where labels begin.
  const least = Math.min(Math.max(labels.hue_layer, labels.layers > 1 ? 1 : 0), labels.layers - 1);
  const { seen, opened } = useFollowView(box, tree, least, room, follows);
  const isOpen = (topic: Topic): boolean =>
    search ? (turnedInSearch.get(topic.ref) ?? search.above.has(topic)) : (turned.get(topic.ref) ?? opened.has(topic.ref));
  const rows: Listed[] = listedTopics(tree, isOpen, search);
  if (!search && state.noise.value > 0) rows.push(NOISE);
  const list = useVisibleRows(box, rows.length, ROW);
  useEffect(() => setRoom(list.room), [list.room]);

  /** Whether some clusters are out of view. */
  const partly = useMemo(() => seen !== null && [...tree.byRef.values()].some((topic) => topic.cluster.size > 0 && !seen.has(topic)), [seen, tree]);
  const isSeen = (row: Listed): boolean => row !== NOISE && seen !== null && seen.has(row.topic);
  /** Whether rows are marked as in view or not. */
  const marksRows = partly && rows.some((row) => row !== NOISE && !isSeen(row));
  useEffect(() => {
    if (!marksRows || !follows || search) return;
    const first = rows.findIndex((row) => row !== NOISE && !row.open && isSeen(row));
    if (first >= 0) list.show(first, Math.min(first, 2));
  }, [opened]);

  const [active, setActive] = useState("");
  const activeIndex = Math.max(0, rows.findIndex((row) => refOf(row) === active));
  const go = (to: number): void => {
    const at = Math.min(rows.length - 1, Math.max(0, to));
    setActive(refOf(rows[at]));
    list.show(at);
    requestAnimationFrame(() => box.current?.querySelector<HTMLElement>(`[data-row="${at}"]`)?.focus());
  };
  const setExpanded = (topics: readonly Topic[], open: boolean): void => {
    const set = search ? setTurnedInSearch : setTurned;
    set((old) => new Map([...old, ...topics.map(({ ref }) => [ref, open] as const)]));
  };
  const typed = useRef({ text: "", at: 0 });
  const onKey = (event: KeyboardEvent): void => {
    const row = rows[activeIndex];
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const topic = row === NOISE ? null : row.topic;
    const open = row === NOISE ? null : row.open;
    const page = Math.max(1, Math.floor(box.current!.clientHeight / ROW) - 1);
    const steps: Record<string, () => void> = {
      ArrowDown: () => go(activeIndex + 1),
      ArrowUp: () => go(activeIndex - 1),
      PageDown: () => go(activeIndex + page),
      PageUp: () => go(activeIndex - page),
      Home: () => go(0),
      End: () => go(rows.length - 1),
      Enter: () => toggleTopic(row),
      " ": () => toggleTopic(row),
      ArrowRight: () => (open ? go(activeIndex + 1) : topic && open === false && setExpanded([topic], true)),
      ArrowLeft: () => (topic && open ? setExpanded([topic], false) : topic?.parent && go(rows.findIndex((other) => refOf(other) === topic.parent!.ref))),
      "*": () => setExpanded((topic?.parent?.children ?? tree.roots).filter(({ children }) => children.length > 0), true),
    };
    if (event.key in steps) steps[event.key]();
    else if (/^[\p{L}\p{N}]$/u.test(event.key)) {
      const before = event.timeStamp - typed.current.at < TYPE_AHEAD_MS ? typed.current.text : "";
      typed.current = { text: before + event.key, at: event.timeStamp };
      const at = typeAhead(rows.map(nameOf), activeIndex, typed.current.text);
      if (at >= 0) go(at);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };

  const anyOpen = rows.some((row) => row !== NOISE && row.open);
  const finest = labels.clusters.filter(({ layer }) => layer === 0);
  const shown = partly ? finest.filter((cluster) => seen!.has(tree.byRef.get(`0.${cluster.id}`)!)).length : 0;
  return (
    <>
      <div class="tree-head">
        <h2>Topics</h2>
        <span class="muted small">
          {partly ? `${count(shown)} of ${count(finest.length)} in view` : labels.layers > 1 ? `${count(finest.length)} in ${labels.layers} layers` : ""}
        </span>
        <button
          class="icon"
          aria-pressed={follows}
          aria-label="Follow the view"
          title="Follow the view: open the topics that are in it, as far as the list has room"
          onClick={() => {
            if (!follows) setTurned(new Map());
            setFollows(!follows);
          }}
        >
          <Icon path={EYE} />
        </button>
        {parents.length > 0 && (
          <button class="icon" aria-label={anyOpen ? "Close all topics" : "Open all topics"} title={anyOpen ? "Close all" : "Open all"} onClick={() => setExpanded(parents, !anyOpen)}>
            <Icon path={anyOpen ? FOLD : UNFOLD} />
          </button>
        )}
      </div>
      <div class="rows tree" role="tree" aria-label="Topics, with their number of documents" aria-multiselectable="true" ref={box} onScroll={list.onScroll} onKeyDown={onKey}>
        <div style={{ height: `${rows.length * ROW}px` }}>
          {rows.map((row, at) =>
            // The row with the tab stop is always rendered.
            (at >= list.first && at < list.last) || at === activeIndex ? (
              <TreeItem
                key={refOf(row)}
                row={row}
                at={at}
                height={ROW}
                roots={tree.roots.length}
                flat={parents.length === 0}
                focusable={at === activeIndex}
                seen={marksRows ? isSeen(row) : null}
                found={search?.found ?? null}
                onChoose={() => {
                  setActive(refOf(row));
                  toggleTopic(row);
                }}
                onTurn={() => {
                  setActive(refOf(row));
                  if (row !== NOISE) setExpanded([row.topic], !row.open);
                }}
              />
            ) : null,
          )}
        </div>
      </div>
      {search?.found.size === 0 && (
        <p class="muted small">{/^#\d*$/.test(searchedWords()) ? "Enter pins the document with this row id" : "No cluster has this in its label or keyphrases"}</p>
      )}
    </>
  );
}
