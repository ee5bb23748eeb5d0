/** What the page knows and what the user chose: signals that the panels read and the map follows. */

import { computed, signal } from "@preact/signals";
import { categoriesOf } from "./engine/column-names";
import type { Theme } from "./engine/colour";
import { keyOf, type Filters } from "./engine/filters";
import type { CategoryColumn, ClusterDetail, ClusterEntry, ColourColumn, LabelsFile, Manifest, NumberColumn } from "./engine/format";
import type { Document, Generation } from "./engine/generation";
import type { Found } from "./engine/search";
import type { Query } from "./engine/tokens";
import { documentsOf, type MergedIndex } from "./engine/merge";
import type { Orbit } from "./engine/orbit";
import type { ScaleKind } from "./engine/scale";
import { combined, listed, sizeOf, type Operation, type Selection } from "./engine/selection";
import type { Tag } from "./engine/tags";

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

/** Raised when what could not be read is to be asked for again. */
export const tries = signal(0);

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
/** Whether all that the page shows is in its one file. */
export const inOneFile = signal(false);
/** Colours of clusters that are not here themselves yet. */
export const hues = signal<readonly Hue[]>([]);
export interface Hue {
  id: number;
  layer: number;
  hue: number;
  shade: number;
}
/** Whether the root tiles are here, or could not be read. */
export const rootsRead = signal(false);
/** Whether the clusters have been read, or could not be. */
export const labelsRead = signal(false);
/** The clusters as they were published, and as the page shows them: with what its reader has edited, where anything is. */
export const published = { labels: signal<LabelsFile | null>(null), details: signal<ClusterDetail[] | null>(null) };
export interface Edited {
  labels(file: LabelsFile): LabelsFile;
  details(details: ClusterDetail[]): ClusterDetail[];
}
export const edited = signal<Edited | null>(null);
export const labels = computed(() => published.labels.value && (edited.value?.labels(published.labels.value) ?? published.labels.value));
export const details = computed(() => published.details.value && (edited.value?.details(published.details.value) ?? published.details.value));
/** The cluster, as `layer.id`, that is being edited. */
export const editing = signal<string | null>(null);
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
/** By columns, any number at once, whatever colours the points. */
export const filters = signal<Filters>(new Map());
/** What passes each filter by text; its documents are null while they are looked for. */
export const textMatches = signal<ReadonlyMap<string, TextMatch>>(new Map());
export interface TextMatch {
  text: string | null;
  pattern: boolean;
  documents: Selection | null;
}
/** Documents of each cluster of layer 0 that pass the filters, of so many that were counted; null without filters. */
export const clusterCounts = signal<{ clusters: ReadonlyMap<number, number>; documents: number; whole: boolean } | null>(null);
/** The cluster under the pointer in the list. */
export const pointed = signal<ClusterEntry | null>(null);

export const hovered = signal<Hovered | null>(null);
export const hoverCard = signal<{ left: number; top: number } | null>(null);
export const pinned = signal<Pinned | null>(null);
export const pinning = signal(false);
/** What is searched for, and what was found; null while there is nothing to search for, or the answer is on its way. */
export const query = signal("");
/** What is compared: `meaning`, or else words. */
export const findBy = signal("");
export const found = signal<Answer | null>(null);
export interface Answer extends Found {
  query: Query;
  /** Documents that can be found so: whose words are indexed, or of which it is known what they are like. */
  searchable: number;
  /** Whose like these are, or that they are near in meaning: nearest first, and scores are cosine similarities then. */
  like?: number;
  meaning?: boolean;
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
/** Whether somebody looks at the tree of topics. */
export const treeShown = signal(false);
/** Documents in view of each cluster of layer 0, of those that are drawn; null until they are counted. */
export const clustersInView = signal<ReadonlyMap<number, number> | null>(null);
/** Documents that the user has selected, until they are let go; it comes before what was found. */
export const selected = signal<Selected | null>(null);
export interface Selected {
  documents: Selection;
  /** Whether there were more than were drawn or listed. */
  part: boolean;
}
/** What the next shape or source does with what is selected. */
export const operation = signal<Operation>("replace");
/** What the pointer draws over the map, instead of moving it. */
export const tool = signal<"box" | "lasso" | null>(null);
export function choose(which: "box" | "lasso"): void {
  // Shapes are drawn on the flat map.
  inSpace.value = false;
  tool.value = tool.value === which ? null : which;
}
/** Whether a search came after the selection, which then waits for its turn. */
export const setAside = signal(false);
/** While documents are being selected: what is read takes a while. */
export const selecting = signal(false);
/** Documents of a selection that are listed at most. */
export const MOST_LISTED = 20_000;
/** The selection, where it is what the page shows. */
export const shownSelection = computed<Selected | null>(() => (setAside.value && found.value ? null : selected.value));
const selectedRows = computed<readonly Row[] | null>(
  () => shownSelection.value && listed(shownSelection.value.documents, generations.value, MOST_LISTED),
);
/** What is listed of what is lit, the rest being dimmed; null if nothing is singled out. */
export const litRows = computed<readonly Row[] | null>(() => selectedRows.value ?? found.value?.hits ?? null);
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
  /** Whether a shade behind the points is of all documents. */
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
/** While a stretch of time moves over the map by itself: what it filters then is no step for Back. */
export const playing = signal(false);
export const heightFactor = signal(1);
/** Whether points are larger where space is sparse. */
export const sizeBySparsity = signal(false);
export const gridShown = signal(true);
/** Whether lines of equal density lie over the flat map. */
export const contours = signal(false);
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

/** The clusters of layer 0 below clusters of any layer, -1 for noise. */
export function leavesOf(refs: Iterable<string>): ReadonlySet<number> {
  const found = new Set<number>();
  for (const ref of refs) {
    if (ref === "n") found.add(-1);
    else for (const id of leaves.value.get(ref) ?? []) found.add(id);
  }
  return found;
}

/** The clusters of layer 0 that are shown, or null for all; -1 is noise. */
export const shownClusters = computed<ReadonlySet<number> | null>(() => {
  return isolated.value.size ? leavesOf(isolated.value) : null;
});

/** Documents in what is isolated, of all. */
export const isolatedDocuments = computed(() => {
  const shown = shownClusters.value;
  if (!shown) return documents.value;
  let count = shown.has(-1) ? noise.value : 0;
  for (const id of shown) count += byRef.value.get(`0.${id}`)?.size ?? 0;
  return count;
});

/** Tags, with where their documents lie on the map. */
export interface Tagged {
  tag: Tag;
  name: string;
  documents: Selection;
}
export const tagged = signal<readonly Tagged[]>([]);
/** The colour by tags: they are the reader's own, and in no link. */
export const TAGS = "tags";
/** Tags as a column; a document of several has the last of them. */
export const tagsColumn = computed<CategoryColumn | null>(() => {
  const all = tagged.value.reduce<Selection>((sum, one) => combined(sum, "add", one.documents), new Map());
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

export const column = computed<ColourColumn | null>(() =>
  colour.value === TAGS ? tagsColumn.value : (index.value?.colours.find((entry) => entry.id === colour.value) ?? null),
);

/** Id of the column of numbers that the size of points follows; empty where all are as large. */
export const sizeBy = signal("");
export const sizeColumn = computed<NumberColumn | null>(() => {
  const found = index.value?.colours.find(({ id }) => id === sizeBy.value);
  return found?.kind === "numbers" ? (found as NumberColumn) : null;
});

/** The categories of the colour column that are chosen; a filter as any other. */
export const categories = computed<ReadonlySet<number>>(() => {
  const filter = column.value && filters.value.get(keyOf(column.value));
  return new Set(filter?.kind === "categories" ? categoriesOf(filter.names, column.value) : []);
});

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
