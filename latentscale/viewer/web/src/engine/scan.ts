/** Finds all documents in a shape or clusters that pass filters, reading as few tiles as possible. */

import { ViewerError } from "./format";
import type { Generation, LoadedTile } from "./generation";
import type { TileInfo } from "./lod";
import { positionAt } from "./positions";
import { combine, mergeRanges, rangesOf, type Ranges, type Selection } from "./selection";
import { boundsOf, contains, relation, type Shape } from "./shape";

/** Maximum number of tiles and tile pages read per query: about four million documents. */
const MAX_TILES = 256;
const MAX_PAGES = 512;
const CONCURRENCY = 6;
const LARGE_WINDOW = 4000;

/** The query would read more than the page allows. */
export class ScanLimitError extends ViewerError {}

export interface ScanQuery {
  /** A polygon; null for the whole map. */
  shape: Shape | null;
  /** Clusters of layer 0, -1 for noise; null for all. */
  clusters: ReadonlySet<number> | null;
  /** Mask of the points of a tile that pass the filters; null without filters. */
  passes: ((tile: LoadedTile) => Promise<Uint8Array>) | null;
}

/**
 * The documents that match a query, exactly. Tiles completely inside the shape are not read unless clusters or filters
 * require it.
 *
 * @throws ScanLimitError if more than a few hundred tiles would have to be read.
 */
export async function scan(generations: readonly Generation[], question: ScanQuery): Promise<Selection> {
  let selection: Selection = new Map();
  const budget = { tiles: MAX_TILES, pages: MAX_PAGES };
  for (const generation of generations) {
    const { positions } = await generation.removed();
    const found = new Map([[generation.number, await scanGeneration(generation, question, budget)]]);
    selection = combine(selection, "add", combine(found, "subtract", new Map([[generation.number, rangesOf(positions)]])));
  }
  return selection;
}

async function scanGeneration(generation: Generation, question: ScanQuery, budget: { tiles: number; pages: number }): Promise<Ranges> {
  const { shape, clusters, passes } = question;
  const pointwise = clusters !== null || passes !== null;
  if (!shape && !pointwise) return [0, generation.entry.documents];
  const { read, whole } = await tilesToScan(generation, shape, pointwise, budget);
  const pairs: [number, number][] = whole.map(({ first, count }) => [first, first + count]);
  await forEachConcurrent(read, async (info) => {
    const tile = await generation.tile(info);
    const mask = await passes?.(tile);
    const all = !shape || relation(shape, tile.bounds) === "inside";
    if (!all && generation.isCoarse(tile, drawingScale(shape))) await generation.refine(tile);
    for (let i = 0; i < tile.count; i++) {
      if ((mask && !mask[i]) || (clusters && !clusters.has(tile.cluster[i]))) continue;
      if (!all && !contains(shape, ...positionAt(tile, i))) continue;
      pairs.push([info.first + i, info.first + i + 1]);
    }
  });
  return mergeRanges(pairs);
}

/** Assumed pixels per map unit when a shape was drawn: as if it filled a large window. */
function drawingScale(shape: Shape): number {
  const { x0, y0, x1, y1 } = boundsOf(shape);
  return LARGE_WINDOW / Math.max(x1 - x0, y1 - y0);
}

/** Tiles to read, and tiles that match as a whole. */
async function tilesToScan(generation: Generation, shape: Shape | null, pointwise: boolean, budget: { tiles: number; pages: number }) {
  const read: TileInfo[] = [];
  const whole: TileInfo[] = [];
  const { tree } = generation;
  let level: [z: number, x: number, y: number, inside: boolean][] = [[0, 0, 0, shape === null]];
  while (level.length) {
    const next: typeof level = [];
    const pages = [...new Set(level.map(([z, x, y]) => tree.pageOf(z, x, y)))].filter((key) => !tree.pages.has(key));
    // The root of a one-tile generation is known without its page.
    const needed = pages.filter((key) => key !== "0-0-0" || tree.tiles.get("0-0-0")!.children);
    if ((budget.pages -= needed.length) < 0) throw limitError();
    await forEachConcurrent(needed, (key) => generation.page(key));
    for (const [z, x, y, inside] of level) {
      const tile = tree.tiles.get(`${z}-${x}-${y}`);
      if (!tile) throw new ViewerError(`No page lists the tile ${z}-${x}-${y}: the map's files do not belong together.`);
      const how = inside ? "inside" : relation(shape!, tree.bounds(tile));
      if (how === "outside") continue;
      if (how === "inside" && !pointwise) whole.push(tile);
      else if ((budget.tiles -= 1) < 0) throw limitError();
      else read.push(tile);
      for (let i = 0; i < 4; i++)
        if (tile.children & (1 << i)) next.push([z + 1, 2 * x + (i & 1), 2 * y + (i >> 1), how === "inside"]);
    }
    level = next;
  }
  return { read, whole };
}

const limitError = () => new ScanLimitError(`This takes more than ${MAX_TILES} files of points to tell exactly.`);

/** Read complete levels of tiles, coarse to fine, up to `mostTiles`: an even sample, or everything. */
export async function sampleTiles(generations: readonly Generation[], mostTiles: number): Promise<{ tiles: LoadedTile[]; whole: boolean }> {
  const infos: { generation: Generation; info: TileInfo }[] = [];
  let level: { generation: Generation; z: number; x: number; y: number }[] = generations.map((generation) => ({ generation, z: 0, x: 0, y: 0 }));
  while (level.length && (infos.length === 0 || infos.length + level.length <= mostTiles)) {
    const pages = new Map<string, () => Promise<void>>();
    for (const { generation, z, x, y } of level) {
      const key = generation.tree.pageOf(z, x, y);
      const tile = generation.tree.tiles.get(`${z}-${x}-${y}`);
      if (!generation.tree.pages.has(key) && (!tile || tile.children)) pages.set(`${generation.number}/${key}`, () => generation.page(key));
    }
    await forEachConcurrent([...pages.values()], (ask) => ask());
    const next: typeof level = [];
    for (const { generation, z, x, y } of level) {
      const info = generation.tree.tiles.get(`${z}-${x}-${y}`);
      if (!info) throw new ViewerError(`No page lists the tile ${z}-${x}-${y}: the map's files do not belong together.`);
      infos.push({ generation, info });
      for (let i = 0; i < 4; i++) if (info.children & (1 << i)) next.push({ generation, z: z + 1, x: 2 * x + (i & 1), y: 2 * y + (i >> 1) });
    }
    level = next;
  }
  const tiles: LoadedTile[] = new Array(infos.length);
  await forEachConcurrent(infos, async ({ generation, info }, k) => void (tiles[k] = await generation.tile(info)));
  return { tiles, whole: level.length === 0 };
}

/** Run `work` for all items with limited concurrency. */
export async function forEachConcurrent<T>(items: readonly T[], work: (item: T, k: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < items.length) {
      const k = next++;
      await work(items[k], k);
    }
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, items.length) }, one));
}
