/** Which tiles to draw: an additive quadtree walked from the root under a budget of points. */

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
  /** Points of all tiles below it. */
  below: number;
}

export interface PackInfo {
  index: number;
  first: number;
  bytes: number;
  footer: number;
}

/** What is known of a generation's tiles; grows as tile pages arrive. */
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
      // Maps of the first release do not say: as many again, where there are any.
      this.tiles.set(key, { key, z, x, y, first, count, children, bytes, below: below ?? (children ? count : 0) });
    }
    const known = new Set(this.packs.map((pack) => pack.index));
    for (const [index, first, bytes, footer] of page.packs)
      if (!known.has(index)) this.packs.push({ index, first, bytes, footer });
    this.packs.sort((a, b) => a.first - b.first);
  }

  /** The page that lists a tile. */
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

  /** The pack that holds a position, if a page that lists it is here. */
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
  /** Tiles to draw, coarse first. */
  tiles: TileInfo[];
  /** Which part of each tile's points to draw, 1 for all. */
  shares: number[];
  /** Pages that must be read before the traversal can continue. */
  pages: string[];
  /** Points to draw, in the view and around it. */
  points: number;
  /** Which part of the generation's documents in view is drawn, if points lie evenly in their tiles; NaN if it has none there. */
  rate: number;
  /** Whether something in view was left out: too small on the screen yet, or over the budget. */
  sampled: boolean;
  overBudget: boolean;
}

export interface LodOptions {
  view: Box;
  /** Pixels a unit of the map. */
  scale: number;
  /** Points in the view at most, if points lie evenly in their tiles. */
  budget: number;
  /** A tile is opened when its edge is this many pixels on the screen. */
  minEdge: number;
  /** Draw no larger part of the documents in view than this. */
  rate?: number;
}

/** A level is drawn in part if the budget allows for this share of it: fetching more to draw less is a waste. */
const MIN_SHARE = 1 / 3;
/** What a point costs that is in a tile and not in the view, if one in the view costs 1. */
const OFF_SCREEN_COST = 0.1;
/** Shares move in steps, of an eighth of an octave: otherwise points would come and go with every pixel of a pan. */
const SHARE_STEPS = 8;

/**
 * Level by level, as long as the budget lasts. A level is drawn with the same share in all of its tiles, or not at all: with
 * some tiles and without others, one half of a map would look denser than the other.
 */
export function chooseTiles(tree: TileTree, { view, scale, budget, minEdge, rate = 1 }: LodOptions): Choice {
  const choice: Choice = { tiles: [], shares: [], pages: [], points: 0, rate: NaN, sampled: false, overBudget: false };
  const pages = new Set<string>();
  let cost = 0;
  let level: [number, number, number][] = [[0, 0, 0]];
  // In view, if points lie evenly in their tiles: what is drawn, what there is down to this level, and below it.
  let drawn = 0;
  let above = 0;
  let below = 0;
  while (level.length) {
    const here: TileInfo[] = [];
    let points = 0;
    let seen = 0;
    let deeper = 0;
    for (const [z, x, y] of level) {
      const box = tree.bounds({ z, x, y });
      if (box.x1 < view.x0 || box.x0 > view.x1 || box.y1 < view.y0 || box.y0 > view.y1) continue;
      if (z > 0 && (box.x1 - box.x0) * scale < minEdge) {
        choice.sampled = true;
        continue;
      }
      const tile = tree.tiles.get(`${z}-${x}-${y}`);
      const page = tree.pageOf(z, x, y);
      // A tile without children needs no page: the root is in the manifest.
      if (!tile || (tile.children && !tree.pages.has(page))) pages.add(page);
      if (!tile) {
        choice.sampled = true;
        continue;
      }
      here.push(tile);
      const part = inView(box, view);
      points += tile.count * Math.max(OFF_SCREEN_COST, part);
      seen += tile.count * part;
      deeper += tile.below * part;
    }
    if (!here.length) break;
    const even = rate < 1 && seen > 0 ? quantized((rate * (above + seen + deeper) - drawn) / seen) : 1;
    // The root is drawn whatever the budget is.
    const affordable = choice.tiles.length ? Math.min(1, (budget - cost) / points) : 1;
    const share = Math.min(even, affordable);
    if (share < 1) choice.sampled = true;
    if (affordable < 1 && affordable <= even) choice.overBudget = true;
    if (share <= 0 || (affordable < MIN_SHARE && affordable <= even)) break;
    cost += share * points;
    drawn += share * seen;
    above += seen;
    below = deeper;
    level = [];
    for (const tile of here) {
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
 * The tiles of all generations, as one picture. The largest generation is drawn as the budget allows, and of the others
 * the same part of what is in view: the few documents of an update, drawn whole, would outweigh the many of which a
 * sample is drawn. With `whole`, the others are drawn as if each were alone.
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
    // Where the largest has nothing, or its share is unknown, the budget is the only limit.
    const budget = rate < 1 ? options.budget : Math.max(share(g), options.budget - first.points);
    return chooseTiles(tree, { ...options, budget, rate: rate > 0.999 ? 1 : rate });
  });
}

const quantized = (share: number): number =>
  share >= 1 ? 1 : share <= 0 ? 0 : Math.min(1, 2 ** (Math.round(Math.log2(share) * SHARE_STEPS) / SHARE_STEPS));

/** Whether a point of a tile is among the share that is drawn; as in the shader. */
export const isShown = (index: number, share: number): boolean => ((index * 40503) & 65535) < share * 65536;

export const shownCount = (count: number, share: number): number => (share >= 1 ? count : Math.floor(count * share));

/** Which part of a tile's square is in the view. */
function inView(tile: Box, view: Box): number {
  const across = Math.min(tile.x1, view.x1) - Math.max(tile.x0, view.x0);
  const along = Math.min(tile.y1, view.y1) - Math.max(tile.y0, view.y0);
  return (Math.max(0, across) * Math.max(0, along)) / ((tile.x1 - tile.x0) * (tile.y1 - tile.y0));
}
