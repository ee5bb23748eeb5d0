/** What the page knows and what the user chose: signals that the panels read and the map follows. */

import { computed, signal } from "@preact/signals";
import type { Theme } from "./engine/colour";
import type { ClusterDetail, ClusterEntry, ColourColumn, LabelsFile, Manifest } from "./engine/format";
import type { Document, Generation } from "./engine/generation";
import type { Found } from "./engine/search";
import type { Query } from "./engine/tokens";
import { documentsOf, type MergedIndex } from "./engine/merge";
import type { Orbit } from "./engine/orbit";
import type { ScaleKind } from "./engine/scale";

export interface Trouble {
  title: string;
  text: string;
  command?: string;
  /** Whether there is any use in trying again. */
  again?: boolean;
}

/** What could not be read and does not stop the map; the last of each kind. */
export const problems = signal<ReadonlyMap<string, string>>(new Map());
export function report(what: string, error: Error): void {
  problems.value = new Map(problems.value).set(what, error.message);
}

export interface Point {
  x: number;
  y: number;
  /** Its height, where it is known without looking. */
  z?: number;
  /** Cluster of layer 0, -1 for noise. */
  cluster: number;
}

export interface Hovered extends Point {
  generation: number;
  position: number;
  document: Document | null;
  failed: boolean;
}

export interface Pinned extends Point {
  generation: number;
  position: number;
  document: Document;
}

export const trouble = signal<Trouble | null>(null);
export const notice = signal<string | null>(null);
export const manifest = signal<Manifest | null>(null);
export const labels = signal<LabelsFile | null>(null);
export const details = signal<ClusterDetail[] | null>(null);
/** Those of the manifest, in its order: for panels that read files of their own sections. */
export const generations = signal<readonly Generation[]>([]);
export const index = signal<MergedIndex | null>(null);

export const theme = signal<Theme>("dark");
export const themeChosen = signal(false);
export function toggleTheme(): void {
  themeChosen.value = true;
  theme.value = theme.value === "dark" ? "light" : "dark";
}
/** `cluster`, `layer:1`…, `nearest_cluster`, `density` or the id of a column. */
export const colour = signal("cluster");
export const scale = signal<ScaleKind>("linear");
export const scaleChosen = signal(false);
/** `layer.id` of what is isolated, `n` for noise. */
export const isolated = signal<ReadonlySet<string>>(new Set());
export const categories = signal<ReadonlySet<number>>(new Set());
/** The cluster under the pointer in the list. */
export const pointed = signal<ClusterEntry | null>(null);

export const hovered = signal<Hovered | null>(null);
export const hoverCard = signal<{ left: number; top: number } | null>(null);
export const pinned = signal<Pinned | null>(null);
export const pinning = signal(false);
/** What is searched for, and what was found; null while there is nothing to search for, or the answer is on its way. */
export const query = signal("");
export const found = signal<Answer | null>(null);
export interface Answer extends Found {
  query: Query;
  /** Documents whose words are indexed. */
  searchable: number;
}
/** Documents that were found, marked on the map: the best that are drawn. */
export const hits = signal<readonly Point[]>([]);

/** A document by its place, for lists. */
export interface Row {
  generation: Generation;
  position: number;
}
/** Whether somebody looks at the list of what is in view. */
export const listing = signal(false);
/** Documents in view, nearest the middle first, and how many there are. */
export const inView = signal<{ rows: readonly Row[]; all: number }>({ rows: [], all: 0 });
/** Documents that the user has selected, until they are let go; it comes before what was found. */
export const selected = signal<Selection | null>(null);
export interface Selection {
  rows: readonly Row[];
  /** Whether there were more than were drawn or listed. */
  part: boolean;
}
/** What is lit, the rest being dimmed; null if everything is. */
export const litRows = computed<readonly Row[] | null>(() => selected.value?.rows ?? found.value?.hits ?? null);
/** What the list shows. */
export const rows = computed<readonly Row[]>(() => litRows.value ?? inView.value.rows);
/** The document of the list that is pointed at. */
export const pointedRow = signal<Point | null>(null);

/** What the canvas shows; documents are counted in the window, what lies under panels too. */
export interface Drawn {
  points: number;
  /** Whether something in view is left out, and whether that is for the budget. */
  sampled: boolean;
  overBudget: boolean;
  loading: boolean;
  /** Whether the budget was lowered since frames took long. */
  slowed: boolean;
  /** Files of points in view that could not be read, and how many documents they hold. */
  failedFiles: number;
  failedDocuments: number;
  /** Whether the column of the colours is on its way, and documents without it: they are grey. */
  reading: boolean;
  grey: number;
}

export const drawn = signal<Drawn>({
  points: 0,
  sampled: false,
  overBudget: false,
  loading: true,
  slowed: false,
  failedFiles: 0,
  failedDocuments: 0,
  reading: false,
  grey: 0,
});
/** Raised when the canvas is made anew. */
export const canvas = signal(0);
/** The map turned in space, where its documents have heights: whether it is, from where, and how. */
export const hasHeights = computed(() => manifest.value?.generations.every((generation) => generation.z) ?? false);
export const inSpace = signal(false);
/** Whether the map is turned: what an address asks of a flat map is not. */
export const spatial = computed(() => inSpace.value && hasHeights.value);
/** Null until the map was turned: then it is seen from its own first place. */
export const orbit = signal<Orbit | null>(null);
/** Whether the map turns by itself while nobody moves it. */
export const turning = signal(!matchMedia("(prefers-reduced-motion: reduce)").matches);
export const heightFactor = signal(1);
/** Whether points are larger where space is sparse. */
export const sizeBySparsity = signal(false);
export const gridShown = signal(true);
export const settingsOpen = signal(false);
export const helpOpen = signal(false);
export const sizeFactor = signal(1);
export const opacityFactor = signal(1);

export const documents = computed(() => manifest.value?.generations.reduce((sum, g) => sum + documentsOf(g), 0) ?? 0);
export const noise = computed(() => manifest.value?.generations.reduce((sum, g) => sum + g.noise - (g.removed?.noise ?? 0), 0) ?? 0);

export const byRef = computed(() => new Map((labels.value?.clusters ?? []).map((c) => [`${c.layer}.${c.id}`, c])));

/** Clusters of layer 0 below each cluster, itself included if it is one. */
export const leaves = computed(() => {
  const found = new Map<string, number[]>();
  const refs = byRef.value;
  for (const cluster of labels.value?.clusters ?? []) {
    if (cluster.layer !== 0) continue;
    let at: ClusterEntry | undefined = cluster;
    while (at) {
      const ref: string = `${at.layer}.${at.id}`;
      const list = found.get(ref);
      if (list) list.push(cluster.id);
      else found.set(ref, [cluster.id]);
      at = at.parent === null ? undefined : refs.get(`${at.layer + 1}.${at.parent}`);
    }
  }
  return found;
});

/** The clusters of layer 0 that are shown, or null for all; -1 is noise. */
export const shownClusters = computed<ReadonlySet<number> | null>(() => {
  if (!isolated.value.size) return null;
  const shown = new Set<number>();
  for (const ref of isolated.value) {
    if (ref === "n") shown.add(-1);
    else for (const id of leaves.value.get(ref) ?? []) shown.add(id);
  }
  return shown;
});

/** Documents in what is isolated, of all. */
export const isolatedDocuments = computed(() => {
  const shown = shownClusters.value;
  if (!shown) return documents.value;
  let count = shown.has(-1) ? noise.value : 0;
  for (const id of shown) count += byRef.value.get(`0.${id}`)?.size ?? 0;
  return count;
});

export const column = computed<ColourColumn | null>(
  () => index.value?.colours.find((entry) => entry.id === colour.value) ?? null,
);

export function ancestor(cluster: ClusterEntry, layer: number): ClusterEntry {
  let at = cluster;
  while (at.layer < layer && at.parent !== null) {
    const up = byRef.value.get(`${at.layer + 1}.${at.parent}`);
    if (!up) break;
    at = up;
  }
  return at;
}

export function toggled<T>(set: ReadonlySet<T>, item: T): ReadonlySet<T> {
  const next = new Set(set);
  if (!next.delete(item)) next.add(item);
  return next;
}
