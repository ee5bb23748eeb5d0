/** What the reader edits of the clusters: laid over them at once, and kept in the browser where it lets them be. */

import { computed, signal } from "@preact/signals";
import { EDITS, mapOf } from "./engine/edit-storage";
import { broughtOver, editedDetails, editedLabels, keepEdits, placeOf, readEdits, withEdit, type ClusterEdit, type KeptEdits } from "./engine/edits";
import type { ClusterDetail, ClusterEntry } from "./engine/format";
import { refOf } from "./engine/topic-tree";
import * as state from "./state";

export const edits = signal<readonly ClusterEdit[]>([]);
/** Whether the browser keeps them: otherwise they go with the page. */
export const kept = signal(true);
/** Edits of other maps that this address showed, by the id of their map. */
export const earlier = signal<readonly [map: string, edits: readonly ClusterEdit[]][]>([]);

export const mapId = (): string => mapOf(state.manifest.value!);
const folder = () => location.pathname.replace(/[^/]*$/, "");

function storage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

/** Edge of the map's square, by which labels found their room. */
function side(): number {
  const { generations } = state.manifest.value!;
  if (generations.length === 1) return generations[0].side;
  const boxes = generations.map(({ extent }) => extent);
  const along = (axis: number): number => Math.max(...boxes.map((box) => box[axis + 2])) - Math.min(...boxes.map((box) => box[axis]));
  return Math.max(along(0), along(1)) || 1;
}

let begun = false;

/** Read what the browser has kept, once. */
export function readOnce(): void {
  if (begun) return;
  begun = true;
  const own = storage();
  kept.value = own !== null;
  const found: [string, KeptEdits][] = [];
  for (const key of own ? Object.keys(own) : []) {
    const read = key.startsWith(EDITS) ? readEdits(own!, key) : null;
    if (read) found.push([key.slice(EDITS.length), read]);
  }
  earlier.value = found.filter(([map, one]) => map !== mapId() && one.folder === folder() && one.edits.length).map(([map, one]) => [map, one.edits]);
  show(found.find(([map]) => map === mapId())?.[1].edits ?? []);
  // Of another window with this map: what is edited there must not be lost by what is edited here.
  addEventListener("storage", ({ key }) => {
    if (own && key === EDITS + mapId()) show(readEdits(own, key)?.edits ?? []);
  });
}

function show(next: readonly ClusterEdit[]): void {
  edits.value = next;
  state.edited.value = next.length
    ? {
        labels: (file) => editedLabels(file, next, state.published.details.value, side()),
        details: (details) => editedDetails(details, next, state.published.labels.value?.clusters ?? []),
      }
    : null;
}

function change(next: readonly ClusterEdit[]): void {
  show(next);
  const own = storage();
  kept.value = own !== null && keepEdits(own, EDITS + mapId(), { folder: folder(), edits: [...next] });
}

/** A cluster as it was published, by its place; with what is known of it. */
export function publishedAt(ref: string): { cluster: ClusterEntry; detail: ClusterDetail | null } | null {
  const clusters = state.published.labels.value?.clusters ?? [];
  const at = clusters.findIndex((cluster) => refOf(cluster) === ref);
  return at < 0 ? null : { cluster: clusters[at], detail: state.published.details.value?.[at] ?? null };
}

export type Change = Pick<ClusterEdit, "rename" | "describe" | "hide">;

/** Say all that is edited of a cluster; what is as it was published is no edit. */
export function editCluster(ref: string, said: Change): void {
  const { cluster, detail } = publishedAt(ref)!;
  const edit = {
    layer: cluster.layer,
    cluster: cluster.id,
    label: cluster.found ?? cluster.label,
    size: cluster.size,
    members: detail?.exemplars ?? [],
    ...said,
  };
  change(withEdit(edits.value, edit, cluster, detail));
}

export const undo = (edit: ClusterEdit): void => change(edits.value.filter((other) => other !== edit));
export const undoAll = (): void => change([]);
export const byPlace = computed(() => new Map(edits.value.map((edit) => [placeOf(edit), edit])));

/** Put edits of this map, or of another one, to those that there are; how many of them are of no cluster here. */
export function addEdits(map: string, added: readonly ClusterEdit[]): number {
  const here = map === mapId() ? added.filter((edit) => publishedAt(placeOf(edit))) : broughtOver(added, state.published.labels.value!.clusters, state.published.details.value ?? []);
  let next = edits.value;
  for (const edit of here) {
    const { cluster, detail } = publishedAt(placeOf(edit))!;
    next = withEdit(next, { ...next.find((other) => placeOf(other) === placeOf(edit)), ...edit }, cluster, detail);
  }
  change(next);
  return added.length - here.length;
}

/** Forget the edits of an earlier map. */
export function forget(map: string): void {
  storage()?.removeItem(EDITS + map);
  earlier.value = earlier.value.filter(([other]) => other !== map);
}
