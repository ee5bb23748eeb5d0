/** One generation of the map: its tiles, colour columns and documents, fetched on demand. */

import type { SchemaElement } from "hyparquet";
import { ViewerError, type GenerationEntry, type IndexFile, type PageFile, type RemovedCounts } from "./format";
import { TileTree, type Box, type TileInfo } from "./lod";
import { decodeColumn, decodeColumns, decodeIds, decodeRemoved, decodeTile, readFooter, readGroup, type PackFooter, type TilePoints } from "./parquet";
import { refinedPositions, fineLevels, STEPS, stepOf } from "./positions";
import { has, sizeOf, type Ranges } from "./selection";
import { Cache, decodeFile, type Store } from "./store";

export interface LoadedTile extends TilePoints {
  generation: Generation;
  info: TileInfo;
  bounds: Box;
  /** Share of its points that is drawn; depends on the view. */
  share: number;
  /** Number of removed points, whose cluster is `REMOVED`. */
  removed: number;
}

/** Cluster of a removed point; noise is -1. */
export const REMOVED = -2;

interface Removed {
  /** Ascending. */
  positions: Float64Array;
  counts: RemovedCounts | null;
}

export interface Document {
  rowId: number;
  values: [column: string, value: unknown][];
}

export class Generation {
  readonly tree: TileTree;
  private readonly promises = new Map<string, Promise<unknown>>();
  private readonly footers = new Cache<PackFooter>(64);
  private readonly derived = new Cache<unknown>(64);
  private readonly groups = new Cache<unknown[][]>(256);

  constructor(
    readonly number: number,
    readonly entry: GenerationEntry,
    private readonly store: Store,
  ) {
    this.tree = new TileTree(entry);
  }

  /** Number of documents without removed ones. */
  get documents(): number {
    return this.entry.documents - (this.entry.removed?.count ?? 0);
  }

  get noise(): number {
    return this.entry.noise - (this.entry.removed?.noise ?? 0);
  }

  name(file: string): string {
    return this.entry.url + file;
  }

  /** Share one pending or completed request per name; failures may be retried. */
  private once<T>(name: string, make: () => Promise<T>): Promise<T> {
    let promise = this.promises.get(name) as Promise<T> | undefined;
    if (!promise) {
      promise = make();
      this.promises.set(name, promise);
      promise.catch(() => this.promises.delete(name));
    }
    return promise;
  }

  json<T>(file: string): Promise<T> {
    return this.once(file, () => this.store.json<T>(this.name(file)));
  }

  /** Cache a value derived from a file; least recently used values are dropped. */
  async cached<T>(name: string, make: () => Promise<T>): Promise<T> {
    const found = this.derived.get(name) as T | undefined;
    if (found !== undefined) return found;
    const made = await this.once(name, make);
    this.derived.set(name, made, 1);
    this.promises.delete(name);
    return made;
  }

  /** The bytes of a file, such as one of a section. */
  bytes(file: string, signal?: AbortSignal): Promise<ArrayBuffer> {
    return this.store.file(this.name(file), signal);
  }

  index(): Promise<IndexFile> {
    return this.json<IndexFile>("index.json");
  }

  page(key: string): Promise<void> {
    return this.once(`pages/${key}`, async () => {
      const page = this.entry.inline ? (await this.index()).page : await this.store.json<PageFile>(this.name(`pages/${key}.json`));
      if (!page) throw new ViewerError(`${this.name("index.json")} has no page: the map's files do not belong together.`);
      this.tree.addPage(key, page);
    });
  }

  /** Read all tile pages; a map of a million documents has two. */
  async allPages(): Promise<void> {
    if (this.entry.inline) return this.page("0-0-0");
    await Promise.all((await this.index()).pages.map(([name]) => this.page(name)));
  }

  /** Removed positions, needed before any point is drawn. */
  removed(): Promise<Removed> {
    const { removed } = this.entry;
    if (!removed?.count) return Promise.resolve({ positions: new Float64Array(0), counts: null });
    return this.once("removed", async () => {
      const bytes = await this.store.file(removed.url);
      return decodeFile(removed.url, () => decodeRemoved(bytes, removed.count));
    });
  }

  /** Whether a document was removed, or replaced in a later generation. */
  async isRemoved(position: number): Promise<boolean> {
    const { positions } = await this.removed();
    return positions[lowerBound(positions, position)] === position;
  }

  async tile(info: TileInfo, signal?: AbortSignal): Promise<LoadedTile> {
    const name = this.name(`tiles/${info.key}.parquet`);
    const [bytes, { positions }] = await Promise.all([this.store.file(name, signal), this.removed()]);
    const points = await decodeFile(name, () => decodeTile(bytes, info.count));
    const start = lowerBound(positions, info.first);
    let end = start;
    for (; end < positions.length && positions[end] < info.first + info.count; end++) points.cluster[positions[end] - info.first] = REMOVED;
    return { ...points, generation: this, info, bounds: this.tree.bounds(info), share: 1, removed: end - start };
  }

  /**
   * Whether the tile's own precision would misplace points by more than half a pixel, and a finer one is available.
   */
  isCoarse(tile: LoadedTile, scale: number): boolean {
    return tile.steps === STEPS && stepOf(tile) * scale > 1 && fineLevels(this.entry, tile.info.z) > 0;
  }

  /** Replace a tile's positions by the finest available. */
  async refine(tile: LoadedTile): Promise<void> {
    const codes = await this.column(tile.info, "fine");
    if (tile.steps !== STEPS) return;
    const levels = fineLevels(this.entry, tile.info.z);
    tile.xy = refinedPositions(tile.xy, codes, levels);
    tile.steps = STEPS * 2 ** levels;
  }

  async column(info: TileInfo, column: string): Promise<Float32Array> {
    if (this.entry.inline) {
      const columns = await this.once("columns", async () => {
        const own = ["density", "nearest_cluster", ...(this.entry.fine ? ["fine"] : []), ...(this.entry.z ? ["z", "density_3d"] : [])];
        const names = [...own, ...(await this.index()).colours.map((entry) => entry.id)];
        const name = this.name(`tiles/${info.key}.parquet`);
        const bytes = await this.store.file(name);
        return decodeFile(name, () => decodeColumns(bytes, info.count, names));
      });
      const values = columns.get(column);
      if (!values) throw new ViewerError(`Generation ${this.number} has no column ${column}: the map's files do not belong together.`);
      return values;
    }
    const name = this.name(`cols/${column}/${info.key}.parquet`);
    const bytes = await this.store.file(name);
    return decodeFile(name, () => decodeColumn(bytes, info.count));
  }

  /** Prefetch what showing a document needs, while the pointer rests on it. */
  prefetch(position: number): void {
    const pack = this.tree.packOf(position);
    // The page of a one-tile generation may not have been read yet.
    (pack ? this.footer(pack) : this.tileOf(position).then((tile) => this.page(this.tree.pageOf(tile.z, tile.x, tile.y)))).catch(
      () => undefined,
    );
  }

  async document(position: number): Promise<Document> {
    const tile = await this.tileOf(position);
    await this.page(this.tree.pageOf(tile.z, tile.x, tile.y));
    const pack = this.tree.packOf(position);
    if (!pack) throw new ViewerError(`No row pack holds position ${position}: the map's files do not belong together.`);
    const footer = await this.footer(pack);
    const row = position - pack.first;
    let group = 0;
    while (footer.starts[group + 1] <= row) group++;
    const name = `${pack.index}/${group}`;
    let rows = this.groups.get(name);
    if (!rows) {
      rows = await this.once(`group ${name}`, () => decodeFile(this.packName(pack), () => readGroup(footer, group, this.fetcher(pack))));
      this.groups.set(name, rows, 1);
      this.promises.delete(`group ${name}`);
    }
    const values = rows[row - footer.starts[group]];
    return { rowId: Number(values[0]), values: footer.columns.slice(1).map((column, i) => [column, values[i + 1]]) };
  }

  /** The Parquet schema of its documents' columns. */
  async columnTypes(): Promise<SchemaElement[]> {
    await this.page("0-0-0");
    return (await this.footer(this.tree.packs[0])).metadata.schema.slice(1);
  }

  /** Position of a row id in this generation; null if it is absent or removed. */
  async positionOf(rowId: number): Promise<number | null> {
    const { ids } = await this.index();
    if (ids.last !== undefined && rowId > ids.last) return null;
    let file = -1;
    while (file + 1 < ids.first.length && ids.first[file + 1] <= rowId) file++;
    if (file < 0) return null;
    const { rowIds, positions } = await this.idsFile(file, ids.rows);
    const at = lowerBound(rowIds, rowId);
    if (rowIds[at] !== rowId || (await this.isRemoved(positions[at]))) return null;
    return positions[at];
  }

  /** Row ids of positions, ascending; reads files of `ids/` until all are found. */
  async rowIds(ranges: Ranges): Promise<number[]> {
    const { ids } = await this.index();
    const found: number[] = [];
    const wanted = sizeOf(new Map([[this.number, ranges]]));
    for (let file = 0; file < ids.first.length && found.length < wanted; file++) {
      const { rowIds, positions } = await this.idsFile(file, ids.rows);
      positions.forEach((position, i) => {
        if (has(ranges, position)) found.push(rowIds[i]);
      });
    }
    return found;
  }

  /** Positions of the row ids in this generation, both ascending; includes removed documents. */
  async positionsOf(rowIds: readonly number[]): Promise<Float64Array> {
    const { ids } = await this.index();
    const found: number[] = [];
    for (let file = 0, at = 0; file < ids.first.length && at < rowIds.length; file++) {
      const end = ids.first[file + 1] ?? Infinity;
      const from = at;
      while (at < rowIds.length && rowIds[at] < end) at++;
      if (at === from || rowIds[at - 1] < ids.first[file]) continue;
      const { rowIds: own, positions } = await this.idsFile(file, ids.rows);
      for (const rowId of rowIds.slice(from, at)) {
        const place = lowerBound(own, rowId);
        if (own[place] === rowId) found.push(positions[place]);
      }
    }
    return Float64Array.from(found).sort();
  }

  private idsFile(file: number, rows: number) {
    const count = Math.min(rows, this.entry.documents - file * rows);
    return this.once(`ids/${file}`, async () => {
      const name = this.name(`ids/${file}.parquet`);
      const bytes = await this.store.file(name);
      return decodeFile(name, () => decodeIds(bytes, count));
    });
  }

  /** The tile that contains a position; reads the page for its position range if necessary. */
  async tileOf(position: number): Promise<TileInfo> {
    const contains = (tile: TileInfo) => position >= tile.first && position < tile.first + tile.count;
    for (const tile of this.tree.tiles.values()) if (contains(tile)) return tile;
    const { pages } = await this.index();
    const page = pages.findLast(([, first]) => first <= position);
    if (page) await this.page(page[0]);
    for (const tile of this.tree.tiles.values()) if (contains(tile)) return tile;
    throw new ViewerError(`No tile holds position ${position}: the map's files do not belong together.`);
  }

  private fetcher(pack: { index: number; bytes: number }) {
    return (start: number, end: number) => this.store.range(this.packName(pack), start, end, pack.bytes);
  }

  private packName({ index }: { index: number }): string {
    return this.name(`rows/${index}.parquet`);
  }

  private async footer(pack: { index: number; bytes: number; footer: number }): Promise<PackFooter> {
    const cached = this.footers.get(String(pack.index));
    if (cached) return cached;
    const found = await this.once(`footer ${pack.index}`, () =>
      decodeFile(this.packName(pack), () => readFooter(this.fetcher(pack), pack.bytes, pack.footer)),
    );
    this.footers.set(String(pack.index), found, 1);
    this.promises.delete(`footer ${pack.index}`);
    return found;
  }
}

/**
 * Locate a row id in the last generation that contains it, since later ones replace earlier ones; null if none does.
 */
export async function locate(
  generations: readonly Generation[],
  rowId: number,
): Promise<{ generation: Generation; position: number } | null> {
  const positions = await Promise.all(generations.map((generation) => generation.positionOf(rowId)));
  const last = positions.findLastIndex((position) => position !== null);
  return last < 0 ? null : { generation: generations[last], position: positions[last]! };
}

/** The first index in a sorted array whose value is not below `value`. */
function lowerBound(sorted: Float64Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
