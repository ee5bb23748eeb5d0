/** Level of detail: which tiles of the additive quadtree to draw under a budget of points. */

import type { GenerationEntry, PageFile } from "./format";

export interface Box {
  x0: number;
  y0: number;
  x1: number;
  y1: number;
}

export const isInside = (x: number, y: number, box: Box): boolean => x >= box.x0 && x <= box.x1 && y >= box.y0 && y <= box.y1;

export interface TileInfo {
  key: string;
  z: number;
  x: number;
  y: number;
  first: number;
  count: number;
  children: number;
  bytes: number;
  /** Number of points in all descendant tiles. */
  below: number;
}

export interface PackInfo {
  index: number;
  first: number;
  bytes: number;
  footer: number;
}

/** The known part of a generation's tile tree; grows as tile pages are read. */
export class TileTree {
  readonly tiles = new Map<string, TileInfo>();
  readonly packs: PackInfo[] = [];
  readonly pages = new Set<string>();

  constructor(readonly entry: GenerationEntry) {
    const [count, bytes, children] = entry.root;
    this.tiles.set("0-0-0", { key: "0-0-0", z: 0, x: 0, y: 0, first: 0, count, children, bytes, below: Math.max(0, entry.documents - count) });
  }

  addPage(name: string, page: PageFile): void {
    this.pages.add(name);
    for (const [z, x, y, first, count, children, bytes, below] of page.tiles) {
      const key = `${z}-${x}-${y}`;
      // Not in maps of the first release: assume as many points again, if there are children.
      this.tiles.set(key, { key, z, x, y, first, count, children, bytes, below: below ?? (children ? count : 0) });
    }
    const known = new Set(this.packs.map((pack) => pack.index));
    for (const [index, first, bytes, footer] of page.packs)
      if (!known.has(index)) this.packs.push({ index, first, bytes, footer });
    this.packs.sort((a, b) => a.first - b.first);
  }

  /** Key of the page that lists a tile. */
  pageOf(z: number, x: number, y: number): string {
    const up = z % this.entry.page_levels;
    return `${z - up}-${x >> up}-${y >> up}`;
  }

  bounds(tile: { z: number; x: number; y: number }): Box {
    const edge = this.entry.side / 2 ** tile.z;
    const x0 = this.entry.origin[0] + tile.x * edge;
    const y0 = this.entry.origin[1] + tile.y * edge;
    return { x0, y0, x1: x0 + edge, y1: y0 + edge };
  }

  /** The row pack that contains a position, if its page has been read. */
  packOf(position: number): PackInfo | undefined {
    let low = 0;
    let high = this.packs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.packs[middle].first <= position) low = middle + 1;
      else high = middle;
    }
    return this.packs[low - 1];
  }
}

export interface Choice {
  /** Tiles to draw, coarse to fine. */
  tiles: TileInfo[];
  /** Share of each tile's points to draw, 1 for all. */
  shares: number[];
  /** Pages that must be read before the traversal can continue. */
  pages: string[];
  /** Number of points to draw, including those outside the view. */
  points: number;
  /**
   * Estimated share of the generation's documents in view that is drawn, assuming uniform density within tiles; NaN if
   * it has none there.
   */
  rate: number;
  /** Whether points in view were left out, because they are too small on the screen or exceed the budget. */
  sampled: boolean;
  overBudget: boolean;
}

export interface LodOptions {
  view: Box;
  /** Pixels per map unit. */
  scale: number;
  /** Maximum number of points in view, assuming uniform density within tiles. */
  budget: number;
  /** Tiles are subdivided when their edge exceeds this many pixels. */
  minEdge: number;
  /** Maximum share of the documents in view to draw. */
  rate?: number;
}

/** Minimum share of a level worth drawing: fetching much to draw little is wasteful. */
const MIN_SHARE = 1 / 3;
/** Budget cost of an off-screen point in a tile, relative to 1 for a visible one. */
const OFF_SCREEN_COST = 0.1;
/** Shares are quantised to eighths of an octave: otherwise points would flicker while panning. */
const SHARE_STEPS = 8;

/**
 * Choose tiles level by level until the budget is spent. All tiles of a level are drawn with the same share, or none
 * is: drawing only some would distort the apparent density.
 */
export function chooseTiles(tree: TileTree, { view, scale, budget, minEdge, rate = 1 }: LodOptions): Choice {
  const choice: Choice = { tiles: [], shares: [], pages: [], points: 0, rate: NaN, sampled: false, overBudget: false };
  const pages = new Set<string>();
  let cost = 0;
  let level: [number, number, number][] = [[0, 0, 0]];
  // Estimated points in view: drawn, existing down to this level, and below it.
  let drawn = 0;
  let above = 0;
  let below = 0;
  while (level.length) {
    const visible: TileInfo[] = [];
    let points = 0;
    let seen = 0;
    let descendants = 0;
    for (const [z, x, y] of level) {
      const box = tree.bounds({ z, x, y });
      if (box.x1 < view.x0 || box.x0 > view.x1 || box.y1 < view.y0 || box.y0 > view.y1) continue;
      if (z > 0 && (box.x1 - box.x0) * scale < minEdge) {
        choice.sampled = true;
        continue;
      }
      const tile = tree.tiles.get(`${z}-${x}-${y}`);
      const page = tree.pageOf(z, x, y);
      // The root is in the manifest, so a tile without children needs no page.
      if (!tile || (tile.children && !tree.pages.has(page))) pages.add(page);
      if (!tile) {
        choice.sampled = true;
        continue;
      }
      visible.push(tile);
      const part = inView(box, view);
      points += tile.count * Math.max(OFF_SCREEN_COST, part);
      seen += tile.count * part;
      descendants += tile.below * part;
    }
    if (!visible.length) break;
    const rateShare = rate < 1 && seen > 0 ? quantized((rate * (above + seen + descendants) - drawn) / seen) : 1;
    // The root is always drawn.
    const affordable = choice.tiles.length ? Math.min(1, (budget - cost) / points) : 1;
    const share = Math.min(rateShare, affordable);
    if (share < 1) choice.sampled = true;
    if (affordable < 1 && affordable <= rateShare) choice.overBudget = true;
    if (share <= 0 || (affordable < MIN_SHARE && affordable <= rateShare)) break;
    cost += share * points;
    drawn += share * seen;
    above += seen;
    below = descendants;
    level = [];
    for (const tile of visible) {
      choice.tiles.push(tile);
      choice.shares.push(share);
      choice.points += shownCount(tile.count, share);
      if (share < 1) continue;
      for (let i = 0; i < 4; i++)
        if (tile.children & (1 << i)) level.push([tile.z + 1, 2 * tile.x + (i & 1), 2 * tile.y + (i >> 1)]);
    }
  }
  choice.pages = [...pages];
  choice.rate = drawn / (above + below);
  return choice;
}

/**
 * Choose the tiles of all generations. The largest is drawn as the budget allows, and the others at the same sampling
 * rate: the few documents of an update, drawn in full, would be over-represented next to a sample. With `whole`, the
 * others are chosen independently.
 */
export function chooseAll(trees: readonly TileTree[], options: LodOptions, whole = false): Choice[] {
  const sizes = trees.map((tree) => tree.entry.documents);
  const all = sizes.reduce((sum, size) => sum + size, 0);
  const main = sizes.indexOf(Math.max(...sizes));
  const share = (g: number): number => (trees.length > 1 ? (options.budget * sizes[g]) / all : options.budget);
  const first = chooseTiles(trees[main], { ...options, budget: share(main) });
  const rate = whole || Number.isNaN(first.rate) ? 1 : first.rate;
  return trees.map((tree, g) => {
    if (g === main) return first;
    // If the largest has no documents in view, the budget is the only limit.
    const budget = rate < 1 ? options.budget : Math.max(share(g), options.budget - first.points);
    return chooseTiles(tree, { ...options, budget, rate: rate > 0.999 ? 1 : rate });
  });
}

const quantized = (share: number): number =>
  share >= 1 ? 1 : share <= 0 ? 0 : Math.min(1, 2 ** (Math.round(Math.log2(share) * SHARE_STEPS) / SHARE_STEPS));

/** Whether a point belongs to the drawn share of its tile; the shader computes the same. */
export const isShown = (index: number, share: number): boolean => ((index * 40503) & 65535) < share * 65536;

/** Approximate number of points in a drawn share. */
export const shownCount = (count: number, share: number): number => (share >= 1 ? count : Math.floor(count * share));

/** Share of a tile's area that is in view. */
function inView(tile: Box, view: Box): number {
  const overlapX = Math.min(tile.x1, view.x1) - Math.max(tile.x0, view.x0);
  const overlapY = Math.min(tile.y1, view.y1) - Math.max(tile.y0, view.y0);
  return (Math.max(0, overlapX) * Math.max(0, overlapY)) / ((tile.x1 - tile.x0) * (tile.y1 - tile.y0));
}
