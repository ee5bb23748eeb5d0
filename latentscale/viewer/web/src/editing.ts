/** The reader's edits of clusters: applied to the labels immediately, and stored in the browser where possible. */

import { computed, signal } from "@preact/signals";
import { STORAGE_PREFIX, mapIdOf } from "./engine/edit-storage";
import { matchEdits, editedDetails, editedLabels, storeEdits, editRef, readEdits, withEdit, type ClusterEdit, type StoredEdits } from "./engine/edits";
import type { ClusterDetail, ClusterEntry } from "./engine/format";
import { refOf } from "./engine/topic-tree";
import * as state from "./state";

export const edits = signal<readonly ClusterEdit[]>([]);
/** Whether the browser can store edits; if not, they are lost with the page. */
export const isPersisted = signal(true);
/** Edits of maps previously served at this address, by map id. */
export const earlierEdits = signal<readonly [map: string, edits: readonly ClusterEdit[]][]>([]);

/** Id of the map whose clusters are shown. */
export const mapId = (): string => mapIdOf(state.manifest.value!);
const folder = () => location.pathname.replace(/[^/]*$/, "");

function storage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

/** Edge length of the map's bounding square, from which label zooms are computed. */
function mapSide(): number {
  const { generations } = state.manifest.value!;
  if (generations.length === 1) return generations[0].side;
  const boxes = generations.map(({ extent }) => extent);
  const extentAlong = (axis: number): number => Math.max(...boxes.map((box) => box[axis + 2])) - Math.min(...boxes.map((box) => box[axis]));
  return Math.max(extentAlong(0), extentAlong(1)) || 1;
}

let started = false;

/** Load the stored edits, once. */
export function loadEdits(): void {
  if (started) return;
  started = true;
  const own = storage();
  isPersisted.value = own !== null;
  const found: [string, StoredEdits][] = [];
  for (const key of own ? Object.keys(own) : []) {
    const read = key.startsWith(STORAGE_PREFIX) ? readEdits(own!, key) : null;
    if (read) found.push([key.slice(STORAGE_PREFIX.length), read]);
  }
  earlierEdits.value = found.filter(([map, one]) => map !== mapId() && one.folder === folder() && one.edits.length).map(([map, one]) => [map, one.edits]);
  applyEdits(found.find(([map]) => map === mapId())?.[1].edits ?? []);
  // Changes from another window with this map: edits here must not overwrite them.
  addEventListener("storage", ({ key }) => {
    if (own && key === STORAGE_PREFIX + mapId()) applyEdits(readEdits(own, key)?.edits ?? []);
  });
}

function applyEdits(next: readonly ClusterEdit[]): void {
  edits.value = next;
  state.edited.value = next.length
    ? {
        labels: (file) => editedLabels(file, next, state.published.details.value, mapSide()),
        details: (details) => editedDetails(details, next, state.published.labels.value?.clusters ?? []),
      }
    : null;
}

function updateEdits(next: readonly ClusterEdit[]): void {
  applyEdits(next);
  const own = storage();
  isPersisted.value = own !== null && storeEdits(own, STORAGE_PREFIX + mapId(), { folder: folder(), edits: [...next] });
}

/** A cluster as published, with its details, by `layer.id`. */
export function publishedCluster(ref: string): { cluster: ClusterEntry; detail: ClusterDetail | null } | null {
  const clusters = state.published.labels.value?.clusters ?? [];
  const at = clusters.findIndex((cluster) => refOf(cluster) === ref);
  return at < 0 ? null : { cluster: clusters[at], detail: state.published.details.value?.[at] ?? null };
}

export type Change = Pick<ClusterEdit, "rename" | "describe" | "hide">;

/** Set the edits of a cluster; values equal to the published ones are dropped. */
export function editCluster(ref: string, change: Change): void {
  const { cluster, detail } = publishedCluster(ref)!;
  const edit = {
    layer: cluster.layer,
    cluster: cluster.id,
    label: cluster.found ?? cluster.label,
    size: cluster.size,
    members: detail?.exemplars ?? [],
    ...change,
  };
  updateEdits(withEdit(edits.value, edit, cluster, detail));
}

export const undoEdit = (edit: ClusterEdit): void => updateEdits(edits.value.filter((other) => other !== edit));
export const undoAllEdits = (): void => updateEdits([]);
/** Edits by `layer.id`. */
export const editsByRef = computed(() => new Map(edits.value.map((edit) => [editRef(edit), edit])));

/** Merge edits of this map, or of an earlier one, into the current edits. Returns how many match no cluster here. */
export function addEdits(map: string, added: readonly ClusterEdit[]): number {
  const matched = map === mapId() ? added.filter((edit) => publishedCluster(editRef(edit))) : matchEdits(added, state.published.labels.value!.clusters, state.published.details.value ?? []);
  let next = edits.value;
  for (const edit of matched) {
    const { cluster, detail } = publishedCluster(editRef(edit))!;
    next = withEdit(next, { ...next.find((other) => editRef(other) === editRef(edit)), ...edit }, cluster, detail);
  }
  updateEdits(next);
  return added.length - matched.length;
}

/** Delete the stored edits of an earlier map. */
export function forgetEdits(map: string): void {
  storage()?.removeItem(STORAGE_PREFIX + map);
  earlierEdits.value = earlierEdits.value.filter(([other]) => other !== map);
}
