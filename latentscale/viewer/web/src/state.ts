/** State of the page: signals that panels read and the map follows. */

import { computed, signal } from "@preact/signals";
import { categoryCodes } from "./engine/column-names";
import type { Theme } from "./engine/colour";
import { keyOf, type Filters } from "./engine/filters";
import type { CategoryColumn, ClusterDetail, ClusterEntry, ColourColumn, LabelsFile, Manifest, NumberColumn } from "./engine/format";
import type { Document, Generation } from "./engine/generation";
import type { SearchResult } from "./engine/search";
import type { Query } from "./engine/tokens";
import { documentsOf, type MergedIndex } from "./engine/merge";
import type { Orbit } from "./engine/orbit";
import type { ScaleKind } from "./engine/scale";
import { combine, firstRows, sizeOf, type Operation, type Selection } from "./engine/selection";
import type { Tag } from "./engine/tags";

export interface Trouble {
  title: string;
  text: string;
  command?: string;
  /** Whether a retry can help. */
  again?: boolean;
}

/** Non-fatal errors, the latest of each kind. */
export const problems = signal<ReadonlyMap<string, string>>(new Map());
/** Report a non-fatal error; `what` names the part of the page that it concerns. */
export function report(what: string, error: Error): void {
  problems.value = new Map(problems.value).set(what, error.message);
}

/** Incremented to retry what could not be read. */
export const retries = signal(0);

export interface Point {
  x: number;
  y: number;
  /** Its height, if known in advance. */
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
/** Whether the page is a single self-contained file. */
export const inOneFile = signal(false);
/** Colours of clusters whose labels are not loaded yet. */
export const hues = signal<readonly Hue[]>([]);
export interface Hue {
  id: number;
  layer: number;
  hue: number;
  shade: number;
}
/** Whether the root tiles have been read, or have failed. */
export const rootsRead = signal(false);
/** Whether the labels have been read, or have failed. */
export const labelsRead = signal(false);
/** Clusters as published. `labels` and `details` below add the reader's edits. */
export const published = { labels: signal<LabelsFile | null>(null), details: signal<ClusterDetail[] | null>(null) };
export interface Edited {
  labels(file: LabelsFile): LabelsFile;
  details(details: ClusterDetail[]): ClusterDetail[];
}
export const edited = signal<Edited | null>(null);
export const labels = computed(() => published.labels.value && (edited.value?.labels(published.labels.value) ?? published.labels.value));
export const details = computed(() => published.details.value && (edited.value?.details(published.details.value) ?? published.details.value));
/** The cluster being edited, as `layer.id`. */
export const editing = signal<string | null>(null);
/** Generations in the manifest's order; panels read the files of their sections through them. */
export const generations = signal<readonly Generation[]>([]);
export const index = signal<MergedIndex | null>(null);

export const theme = signal<Theme>("dark");
export const themeChosen = signal(false);
export function toggleTheme(): void {
  themeChosen.value = true;
  theme.value = theme.value === "dark" ? "light" : "dark";
}
/** What colours the points: `cluster`, `layer:1`…, `nearest_cluster`, `density` or the id of a column. */
export const colour = signal("cluster");
export const scale = signal<ScaleKind>("linear");
export const scaleChosen = signal(false);
/** Isolated clusters as `layer.id`, `n` for noise. */
export const isolated = signal<ReadonlySet<string>>(new Set());
/** Active filters by column, independent of the colouring. */
export const filters = signal<Filters>(new Map());
/** Matches of each text filter; `documents` is null while it is evaluated. */
export const textMatches = signal<ReadonlyMap<string, TextMatch>>(new Map());
export interface TextMatch {
  text: string | null;
  pattern: boolean;
  documents: Selection | null;
}
/** Documents that pass the filters, by cluster of layer 0, and the number that were counted; null without filters. */
export const clusterCounts = signal<{ clusters: ReadonlyMap<number, number>; documents: number; whole: boolean } | null>(null);
/** The cluster hovered in the list. */
export const pointed = signal<ClusterEntry | null>(null);

export const hovered = signal<Hovered | null>(null);
export const hoverCard = signal<{ left: number; top: number } | null>(null);
export const pinned = signal<Pinned | null>(null);
export const pinning = signal(false);
/** The search text. */
export const query = signal("");
/** Search mode: `meaning`, or empty for words. */
export const findBy = signal("");
export const found = signal<Answer | null>(null);
export interface Answer extends SearchResult {
  query: Query;
  /** Number of documents that this kind of search covers. */
  searchable: number;
  /**
   * Row id of the document that the results are similar to, or whether they are near in meaning. Results are then
   * sorted by cosine similarity, their score.
   */
  like?: number;
  meaning?: boolean;
}
/** Positions of the best results that are drawn; the map marks them with rings. */
export const hits = signal<readonly Point[]>([]);

/** A document by its generation and position, for lists. */
export interface Row {
  generation: Generation;
  position: number;
}
/** Whether the list of documents in view is open. */
export const listing = signal(false);
/** Documents in view, nearest the middle first, and their total number. */
export const inView = signal<{ rows: readonly Row[]; all: number }>({ rows: [], all: 0 });
/** Whether the topic tree is open. */
export const treeShown = signal(false);
/** Drawn documents in view by cluster of layer 0; null until counted. */
export const clustersInView = signal<ReadonlyMap<number, number> | null>(null);
/** The user's selection; it takes precedence over search results. */
export const selected = signal<Selected | null>(null);
export interface Selected {
  documents: Selection;
  /** Whether the selection is incomplete: only drawn or listed documents were considered. */
  part: boolean;
}
/** How the next shape or source is combined with the selection. */
export const operation = signal<Operation>("replace");
/** The selection tool; while one is active, dragging draws instead of panning. */
export const tool = signal<"box" | "lasso" | null>(null);
/** Activate a selection tool, or deactivate it if it is active. */
export function toggleTool(which: "box" | "lasso"): void {
  // Shapes can only be drawn on the flat map.
  inSpace.value = false;
  tool.value = tool.value === which ? null : which;
}
/** Whether a newer search hides the selection until its results are dismissed. */
export const selectionSuspended = signal(false);
/** Whether a selection is being computed, which may read files. */
export const selecting = signal(false);
/** Maximum number of listed documents of a selection. */
export const MAX_LISTED = 20_000;
/** The selection, unless a search hides it. */
export const shownSelection = computed<Selected | null>(() => (selectionSuspended.value && found.value ? null : selected.value));
const selectedRows = computed<readonly Row[] | null>(
  () => shownSelection.value && firstRows(shownSelection.value.documents, generations.value, MAX_LISTED),
);
/** Highlighted documents (selection or search results), the others being dimmed; null without either. */
export const litRows = computed<readonly Row[] | null>(() => selectedRows.value ?? found.value?.hits ?? null);
/** Rows of the document list. */
export const rows = computed<readonly Row[]>(() => litRows.value ?? inView.value.rows);
/** Position of the document hovered in the list. */
export const pointedRow = signal<Point | null>(null);

/** What the canvas shows. Points are counted in the whole window, including parts under panels. */
export interface Drawn {
  points: number;
  /** Whether some points in view are left out, and whether because of the point budget. */
  sampled: boolean;
  overBudget: boolean;
  loading: boolean;
  /** Whether the budget was reduced because frames took too long. */
  slowed: boolean;
  /** Tile files in view that could not be read, and their number of documents. */
  failedFiles: number;
  failedDocuments: number;
  /** Whether the colour column is loading, and the number of documents without it, which are grey. */
  reading: boolean;
  grey: number;
  /** Whether the density raster of all documents is drawn behind the points. */
  shaded: boolean;
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
  shaded: false,
});
/** Incremented when the canvas is recreated. */
export const canvas = signal(0);
/** Whether the map has heights and can be shown in 3-D. */
export const hasHeights = computed(() => manifest.value?.generations.every((generation) => generation.z) ?? false);
export const inSpace = signal(false);
/** Whether the map is shown in 3-D; an address may ask for it on a map without heights. */
export const spatial = computed(() => inSpace.value && hasHeights.value);
/** The 3-D view; null until it has been moved from its initial one. */
export const orbit = signal<Orbit | null>(null);
/** Whether the 3-D map rotates automatically while idle. */
export const turning = signal(!matchMedia("(prefers-reduced-motion: reduce)").matches);
/** Whether the time filter is being animated; its changes add no history entries. */
export const playing = signal(false);
export const heightFactor = signal(1);
/** Whether points in sparse regions of space are larger. */
export const sizeBySparsity = signal(false);
export const gridShown = signal(true);
/** Whether density contours are drawn on the flat map. */
export const contours = signal(false);
export const settingsOpen = signal(false);
export const helpOpen = signal(false);
export const sizeFactor = signal(1);
export const opacityFactor = signal(1);

/** Number of documents on the map. */
export const documents = computed(() => manifest.value?.generations.reduce((sum, g) => sum + documentsOf(g), 0) ?? 0);
/** Number of documents in no cluster. */
export const noise = computed(() => manifest.value?.generations.reduce((sum, g) => sum + g.noise - (g.removed?.noise ?? 0), 0) ?? 0);

/** Clusters by `layer.id`. */
export const clustersByRef = computed(() => new Map((labels.value?.clusters ?? []).map((c) => [`${c.layer}.${c.id}`, c])));

/** Ids of the clusters of layer 0 below each cluster, including itself, by `layer.id`. */
export const leaves = computed(() => {
  const found = new Map<string, number[]>();
  const refs = clustersByRef.value;
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

/** Ids of the clusters of layer 0 below clusters of any layer; -1 for noise. */
export function leavesOf(refs: Iterable<string>): ReadonlySet<number> {
  const found = new Set<number>();
  for (const ref of refs) {
    if (ref === "n") found.add(-1);
    else for (const id of leaves.value.get(ref) ?? []) found.add(id);
  }
  return found;
}

/** Ids of the clusters of layer 0 that are shown, -1 for noise; null for all. */
export const shownClusters = computed<ReadonlySet<number> | null>(() => {
  return isolated.value.size ? leavesOf(isolated.value) : null;
});

/** Number of documents in the isolated clusters, or of all. */
export const isolatedDocuments = computed(() => {
  const shown = shownClusters.value;
  if (!shown) return documents.value;
  let count = shown.has(-1) ? noise.value : 0;
  for (const id of shown) count += clustersByRef.value.get(`0.${id}`)?.size ?? 0;
  return count;
});

/** A tag with its documents, located on the map. */
export interface Tagged {
  tag: Tag;
  name: string;
  documents: Selection;
}
export const tagged = signal<readonly Tagged[]>([]);
/** Id of colouring by tags. Tags are private to the reader and never part of a link. */
export const TAGS = "tags";
/** Tags as a categorical column; the last tag of a document wins. */
export const tagsColumn = computed<CategoryColumn | null>(() => {
  const all = tagged.value.reduce<Selection>((sum, one) => combine(sum, "add", one.documents), new Map());
  return tagged.value.length
    ? {
        id: TAGS,
        name: "Tags",
        kind: "categories",
        categories: tagged.value.map((one) => [one.name, sizeOf(one.documents)]),
        other: [0, 0],
        nulls: documents.value - sizeOf(all),
      }
    : null;
});

/** The column that colours the points, if any. */
export const column = computed<ColourColumn | null>(() =>
  colour.value === TAGS ? tagsColumn.value : (index.value?.colours.find((entry) => entry.id === colour.value) ?? null),
);

/** Id of the numeric column that point size encodes; empty for uniform size. */
export const sizeBy = signal("");
export const sizeColumn = computed<NumberColumn | null>(() => {
  const found = index.value?.colours.find(({ id }) => id === sizeBy.value);
  return found?.kind === "numbers" ? (found as NumberColumn) : null;
});

/** Codes of the colour column's categories that its filter selects. */
export const categories = computed<ReadonlySet<number>>(() => {
  const filter = column.value && filters.value.get(keyOf(column.value));
  return new Set(filter?.kind === "categories" ? categoryCodes(filter.names, column.value) : []);
});

/** The ancestor of a cluster in a layer, or the highest one below it. */
export function ancestor(cluster: ClusterEntry, layer: number): ClusterEntry {
  let at = cluster;
  while (at.layer < layer && at.parent !== null) {
    const up = clustersByRef.value.get(`${at.layer + 1}.${at.parent}`);
    if (!up) break;
    at = up;
  }
  return at;
}

/** A copy of a set with an item added or, if it was present, removed. */
export function toggled<T>(set: ReadonlySet<T>, item: T): ReadonlySet<T> {
  const next = new Set(set);
  if (!next.delete(item)) next.add(item);
  return next;
}
