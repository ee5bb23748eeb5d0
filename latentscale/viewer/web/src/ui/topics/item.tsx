/** A row of the tree of topics. */

import { commands } from "../../commands";
import { NARROW_WIDTH } from "../../engine/insets";
import type { Topic, TreeRow } from "../../engine/topic-tree";
import * as state from "../../state";
import { EditMarks } from "../edits/edit-marks";
import { Icon } from "../icon";
import { setOpen } from "../panel-registry";
import { ClusterSwatch } from "../swatch";
import { count } from "../words";
import { searchedWords } from "./search";

/** Noise, by its name in the address; it is the last row. */
export const NOISE = "n";
export type Listed = TreeRow | typeof NOISE;

export const refOf = (row: Listed): string => (row === NOISE ? NOISE : row.topic.ref);
export const nameOf = (row: Listed): string => (row === NOISE ? "In no cluster (noise)" : row.topic.cluster.label);

/** Toggle isolation of a topic, bringing it into view. */
export function toggleTopic(row: Listed): void {
  const ref = refOf(row);
  state.isolated.value = state.toggled(state.isolated.value, ref);
  if (row === NOISE || !state.isolated.value.has(ref)) return;
  // On a phone the list covers the map and the cluster's card.
  if (innerWidth <= NARROW_WIDTH) setOpen("list", false);
  commands.reveal(row.topic.cluster);
}

/** Documents of a topic; with filters, the counted ones that pass. */
function documentsOf(row: Listed): number {
  const counted = state.filters.value.size ? state.clusterCounts.value : null;
  if (!counted) return row === NOISE ? state.noise.value : row.topic.cluster.size;
  return [...state.leavesOf([refOf(row)])].reduce((sum, id) => sum + (counted.clusters.get(id) ?? 0), 0);
}

interface Item {
  row: Listed;
  at: number;
  height: number;
  roots: number;
  /** Whether the tree has a single level. */
  flat: boolean;
  focusable: boolean;
  /** Whether it is in view; null if this is not marked. */
  seen: boolean | null;
  /** Search results; null without a search. */
  found: ReadonlySet<Topic> | null;
  onChoose(): void;
  onTurn(): void;
}

export function TreeItem({ row, at, height, roots, flat, focusable, seen, found, onChoose, onTurn }: Item) {
  const topic = row === NOISE ? null : row.topic;
  const level = row === NOISE ? 1 : row.level;
  const open = row === NOISE ? null : row.open;
  const shown = state.shownClusters.value;
  const leaves = topic ? (state.leaves.value.get(topic.ref) ?? []) : [-1];
  const off = shown !== null && !leaves.some((id) => shown.has(id));
  const noise = found === null && state.noise.value > 0 ? 1 : 0;
  const pinned = state.pinned.value?.cluster;
  const point = (on: boolean) => () => {
    state.pointed.value = on && topic ? topic.cluster : null;
  };
  const classes = ["row", off && "off", seen === false && topic && "away", seen && "seen", row !== NOISE && row.context && "context"];
  return (
    <div
      class={classes.filter(Boolean).join(" ")}
      role="treeitem"
      data-row={at}
      aria-level={level}
      aria-posinset={row === NOISE ? roots + 1 : row.place}
      aria-setsize={row === NOISE ? roots + 1 : row.siblings + (level === 1 ? noise : 0)}
      aria-expanded={open ?? undefined}
      aria-selected={state.isolated.value.has(refOf(row))}
      aria-current={pinned !== undefined && !open && leaves.includes(pinned < 0 ? -1 : pinned) ? "true" : undefined}
      title={nameOf(row)}
      tabIndex={focusable ? 0 : -1}
      style={{ top: `${at * height}px`, height: `${height}px` }}
      onClick={onChoose}
      onPointerEnter={point(true)}
      onPointerLeave={point(false)}
      onFocus={point(true)}
      onBlur={point(false)}
    >
      <span class="guides" style={{ width: `${(level - 1) * 14}px` }} />
      {!flat && (
        <span
          class={`caret ${open === null ? "" : "turns"}`}
          onClick={(event) => {
            if (open === null) return;
            event.stopPropagation();
            onTurn();
          }}
        >
          {open !== null && <Icon name="right" />}
        </span>
      )}
      <ClusterSwatch cluster={topic?.cluster} />
      <span class={topic ? "name" : "name muted"}>
        <HighlightedLabel text={nameOf(row)} words={found && topic && found.has(topic) ? searchedWords() : ""} />
      </span>
      {topic && <EditMarks cluster={topic.cluster} />}
      <span class="size">{count(documentsOf(row))}</span>
    </div>
  );
}

/** A label with the searched words highlighted. */
function HighlightedLabel({ text, words }: { text: string; words: string }) {
  const at = words ? text.toLowerCase().indexOf(words) : -1;
  if (at < 0) return <>{text}</>;
  return (
    <>
      {text.slice(0, at)}
      <mark>{text.slice(at, at + words.length)}</mark>
      {text.slice(at + words.length)}
    </>
  );
}
