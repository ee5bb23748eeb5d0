/** Column values of a tile's points, in the codes of the merged index. */

import type { ColourColumn } from "./format";
import type { Generation } from "./generation";
import type { TileInfo } from "./lod";
import { ADDED, type MergedIndex } from "./merge";
import { NO_VALUE } from "./scale";
import { Cache } from "./store";

/** Cache size in bytes: several columns of all drawn points. */
const CACHE_BYTES = 256 << 20;

export interface TileOf {
  generation: Generation;
  info: TileInfo;
}

export class TileColumns {
  private readonly kept = new Cache<Float32Array>(CACHE_BYTES);
  private readonly pending = new Map<string, Promise<Float32Array>>();

  constructor(private readonly index: MergedIndex) {}

  /** Cached values, if any. */
  cached({ generation, info }: TileOf, column: ColourColumn): Float32Array | undefined {
    return this.kept.get(`${generation.number}/${column.id}/${info.key}`);
  }

  /** Category codes (255: no value), or numbers and days since 1970 (NaN: no value). */
  async read(tile: TileOf, column: ColourColumn): Promise<Float32Array> {
    const name = `${tile.generation.number}/${column.id}/${tile.info.key}`;
    const cached = this.kept.get(name);
    if (cached) return cached;
    let promise = this.pending.get(name);
    if (!promise) {
      promise = this.fetch(tile, column).then((values) => {
        this.kept.set(name, values, values.byteLength);
        return values;
      });
      this.pending.set(name, promise);
      promise.catch(() => undefined).finally(() => this.pending.delete(name));
    }
    return promise;
  }

  private async fetch({ generation, info }: TileOf, column: ColourColumn): Promise<Float32Array> {
    if (column.id === ADDED) return new Float32Array(info.count).fill(generation.number);
    const source = this.index.sources.get(column.id)?.[generation.number];
    if (!source) return new Float32Array(info.count).fill(column.kind === "categories" ? NO_VALUE : NaN);
    const values = await generation.column(info, source.id);
    const { codes } = source;
    return codes ? values.map((code) => codes[code]) : values;
  }
}
