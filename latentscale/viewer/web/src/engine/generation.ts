/** One generation of the map: its tiles, colour columns and documents, fetched when they are needed. */

import { ViewerError, type GenerationEntry, type IndexFile, type PageFile } from "./format";
import { TileTree, type Box, type TileInfo } from "./lod";
import { decodeColumn, decodeIds, decodeTile, readFooter, readGroup, type PackFooter, type TilePoints } from "./parquet";
import { Cache, type Store } from "./store";

export interface LoadedTile extends TilePoints {
  generation: Generation;
  info: TileInfo;
  bounds: Box;
  /** Which part of its points is drawn; by the view, so it changes. */
  share: number;
}

export interface Document {
  rowId: number;
  values: [column: string, value: unknown][];
}

export class Generation {
  readonly tree: TileTree;
  private readonly promises = new Map<string, Promise<unknown>>();
  private readonly footers = new Cache<PackFooter>(64);
  private readonly groups = new Cache<unknown[][]>(256);

  constructor(
    readonly number: number,
    readonly entry: GenerationEntry,
    private readonly store: Store,
  ) {
    this.tree = new TileTree(entry);
  }

  name(file: string): string {
    return this.entry.url + file;
  }

  /** Asked for once at a time; a failure may be asked for again. */
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

  index(): Promise<IndexFile> {
    return this.json<IndexFile>("index.json");
  }

  page(key: string): Promise<void> {
    return this.once(`pages/${key}`, async () => {
      this.tree.addPage(key, await this.store.json<PageFile>(this.name(`pages/${key}.json`)));
    });
  }

  async tile(info: TileInfo, signal?: AbortSignal): Promise<LoadedTile> {
    const points = await decodeTile(await this.store.file(this.name(`tiles/${info.key}.parquet`), signal), info.count);
    return { ...points, generation: this, info, bounds: this.tree.bounds(info), share: 1 };
  }

  async column(info: TileInfo, column: string): Promise<Float32Array> {
    return decodeColumn(await this.store.file(this.name(`cols/${column}/${info.key}.parquet`)), info.count);
  }

  /** Start on what a hover will need, while the pointer still rests. */
  prefetch(position: number): void {
    const pack = this.tree.packOf(position);
    if (pack) this.footer(pack).catch(() => undefined);
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
      rows = await this.once(`group ${name}`, () => readGroup(footer, group, this.fetcher(pack)));
      this.groups.set(name, rows, 1);
      this.promises.delete(`group ${name}`);
    }
    const values = rows[row - footer.starts[group]];
    return { rowId: Number(values[0]), values: footer.columns.slice(1).map((column, i) => [column, values[i + 1]]) };
  }

  /** Where a document lies in this generation, or null if it is not there. */
  async positionOf(rowId: number): Promise<number | null> {
    const { ids } = await this.index();
    let file = -1;
    while (file + 1 < ids.first.length && ids.first[file + 1] <= rowId) file++;
    if (file < 0) return null;
    const count = Math.min(ids.rows, this.entry.documents - file * ids.rows);
    const { rowIds, positions } = await this.once(`ids/${file}`, async () =>
      decodeIds(await this.store.file(this.name(`ids/${file}.parquet`)), count),
    );
    let low = 0;
    let high = rowIds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rowIds[middle] < rowId) low = middle + 1;
      else high = middle;
    }
    return rowIds[low] === rowId ? positions[low] : null;
  }

  /** The tile that holds a position, from the page whose range of positions it falls into. */
  async tileOf(position: number): Promise<TileInfo> {
    const inside = (tile: TileInfo) => position >= tile.first && position < tile.first + tile.count;
    for (const tile of this.tree.tiles.values()) if (inside(tile)) return tile;
    const { pages } = await this.index();
    const page = pages.findLast(([, first]) => first <= position);
    if (page) await this.page(page[0]);
    for (const tile of this.tree.tiles.values()) if (inside(tile)) return tile;
    throw new ViewerError(`No tile holds position ${position}: the map's files do not belong together.`);
  }

  private fetcher(pack: { index: number; bytes: number }) {
    return (start: number, end: number) =>
      this.store.range(this.name(`rows/${pack.index}.parquet`), start, end, pack.bytes);
  }

  private async footer(pack: { index: number; bytes: number; footer: number }): Promise<PackFooter> {
    const kept = this.footers.get(String(pack.index));
    if (kept) return kept;
    const found = await this.once(`footer ${pack.index}`, () => readFooter(this.fetcher(pack), pack.bytes, pack.footer));
    this.footers.set(String(pack.index), found, 1);
    this.promises.delete(`footer ${pack.index}`);
    return found;
  }
}
