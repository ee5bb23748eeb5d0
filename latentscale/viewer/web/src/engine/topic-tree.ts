/** The cluster hierarchy as a tree of topics, and its visible rows. */

import type { ClusterEntry } from "./format";

export interface Topic {
  /** `layer.id`, as in the page's address. */
  ref: string;
  cluster: ClusterEntry;
  parent: Topic | null;
  /** Largest first. */
  children: readonly Topic[];
}

export interface TopicTree {
  roots: readonly Topic[];
  byRef: ReadonlyMap<string, Topic>;
}

/** A visible row of the tree. */
export interface TreeRow {
  topic: Topic;
  /** 1 for a root. */
  level: number;
  /** Its 1-based position among its listed siblings, and their number. */
  place: number;
  siblings: number;
  /** Whether it is expanded; null for a leaf. */
  open: boolean | null;
  /** Whether it is listed only as an ancestor of a search result. */
  context: boolean;
}

/** Topics that match a search, and their ancestors. */
export interface FoundTopics {
  found: ReadonlySet<Topic>;
  above: ReadonlySet<Topic>;
}

/** A cluster as `layer.id`. */
export const refOf = ({ layer, id }: ClusterEntry): string => `${layer}.${id}`;

const bySize = (a: Topic, b: Topic): number => b.cluster.size - a.cluster.size || a.cluster.id - b.cluster.id;

/** Build the tree. A cluster without a parent is a root, whatever its layer. */
export function topicTree(clusters: readonly ClusterEntry[]): TopicTree {
  const byRef = new Map<string, Topic & { children: Topic[] }>();
  for (const cluster of clusters) byRef.set(refOf(cluster), { ref: refOf(cluster), cluster, parent: null, children: [] });
  const roots: Topic[] = [];
  for (const topic of byRef.values()) {
    const { layer, parent } = topic.cluster;
    const above = parent === null ? undefined : byRef.get(`${layer + 1}.${parent}`);
    if (above) {
      topic.parent = above;
      above.children.push(topic);
    } else roots.push(topic);
  }
  for (const { children } of byRef.values()) children.sort(bySize);
  return { roots: roots.sort(bySize), byRef };
}

/** Aggregate document counts of the clusters of layer 0 to all topics; topics without documents are absent. */
export function countsOf(tree: TopicTree, leaves: ReadonlyMap<number, number>): Map<Topic, number> {
  const counts = new Map<Topic, number>();
  for (const [id, documents] of leaves)
    for (let at: Topic | null | undefined = documents > 0 ? tree.byRef.get(`0.${id}`) : null; at; at = at.parent)
      counts.set(at, (counts.get(at) ?? 0) + documents);
  return counts;
}

/**
 * Shares of the documents in view: below the first a topic is not opened automatically, from the second even where its
 * layer is not.
 */
const MIN_SHARE = 0.03;
const MAIN_SHARE = 0.34;

/**
 * The topics to expand so that the tree is as detailed as the view: down to the finest layer for which it has at most
 * `rows` rows, and always to layer `least`; then those with most documents in view, while there is room. Topics with
 * little in view stay closed; `seen` counts documents in view.
 */
export function topicsToOpen(tree: TopicTree, seen: ReadonlyMap<Topic, number>, rows: number, least: number): ReadonlySet<string> {
  const seenOf = (topic: Topic): number => seen.get(topic) ?? 0;
  const top = Math.max(0, ...tree.roots.map(({ cluster }) => cluster.layer));
  const all = tree.roots.reduce((sum, root) => sum + seenOf(root), 0);
  const opened = new Set<string>();
  let closed = [...tree.roots];
  let listed = closed.length;
  const expand = (topics: readonly Topic[]): void => {
    for (const { ref } of topics) opened.add(ref);
    const parts = topics.flatMap(({ children }) => children);
    listed += parts.length;
    closed = [...closed.filter(({ ref }) => !opened.has(ref)), ...parts];
  };
  const parts = (topics: readonly Topic[]): number => topics.reduce((sum, { children }) => sum + children.length, 0);
  for (let layer = top; layer > 0; layer--) {
    const candidates = closed.filter((topic) => topic.cluster.layer === layer && topic.children.length && seenOf(topic) && (layer > least || seenOf(topic) >= MIN_SHARE * all));
    if (layer <= least && listed + parts(candidates) > rows) break;
    expand(candidates);
  }
  for (;;) {
    const dominant = closed.filter((topic) => topic.children.length && seenOf(topic) >= MAIN_SHARE * all && listed + parts([topic]) <= rows);
    if (!all || !dominant.length) return opened;
    expand([dominant.reduce((most, one) => (seenOf(one) > seenOf(most) ? one : most))]);
  }
}

/** Topics that satisfy a predicate, and their ancestors. */
export function findTopics(tree: TopicTree, fits: (cluster: ClusterEntry) => boolean): FoundTopics {
  const found = new Set<Topic>();
  const above = new Set<Topic>();
  for (const topic of tree.byRef.values()) {
    if (!fits(topic.cluster)) continue;
    found.add(topic);
    for (let at = topic.parent; at && !above.has(at); at = at.parent) above.add(at);
  }
  return { found, above };
}

/** The visible rows in order; during a search, the matches with their ancestors. */
export function listedTopics(tree: TopicTree, isOpen: (topic: Topic) => boolean, search: FoundTopics | null = null): TreeRow[] {
  const rows: TreeRow[] = [];
  const visit = (topics: readonly Topic[], level: number): void => {
    topics.forEach((topic, i) => {
      const open = topic.children.length ? isOpen(topic) : null;
      const context = search !== null && !search.found.has(topic);
      rows.push({ topic, level, place: i + 1, siblings: topics.length, open, context });
      if (open) visit(partsOf(topic, search), level + 1);
    });
  };
  visit(search ? tree.roots.filter((root) => isListed(root, search)) : tree.roots, 1);
  return rows;
}

const isListed = (topic: Topic, { found, above }: FoundTopics): boolean => found.has(topic) || above.has(topic);

/** Children of a topic: during a search only matching branches, but all children of a match without any. */
const partsOf = (topic: Topic, search: FoundTopics | null): readonly Topic[] =>
  search?.above.has(topic) ? topic.children.filter((child) => isListed(child, search)) : topic.children;

/**
 * Type-ahead: the next row from `from` whose name starts with the typed text, or -1; a repeated letter cycles through
 * its rows.
 */
export function typeAhead(names: readonly string[], from: number, typed: string): number {
  const wanted = typed.toLocaleLowerCase();
  const single = [...wanted].every((letter) => letter === wanted[0]);
  const text = single ? wanted[0] : wanted;
  for (let step = single ? 1 : 0; step < names.length + (single ? 1 : 0); step++) {
    const at = (from + step) % names.length;
    if (names[at].toLocaleLowerCase().startsWith(text)) return at;
  }
  return -1;
}
