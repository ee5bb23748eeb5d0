/** Size factors of points by a numeric column, read per tile; this script is loaded with the first column. */

import type { NumberColumn } from "../engine/format";
import type { LoadedTile } from "../engine/generation";
import { sizeFactorOf } from "../engine/size-scale";
import { tileColumns } from "../filtering";
import * as state from "../state";

export class SizeFactors {
  /** Version: incremented when values of a tile have arrived or failed. */
  revision = 0;
  private readonly found = new WeakMap<LoadedTile, Float32Array | "asked">();
  private failed = new Set<LoadedTile>();

  constructor(
    readonly column: NumberColumn,
    private readonly changed: () => void,
  ) {}

  /** Diameter factors of a tile's points; null until loaded, when all points have the same size. */
  of(tile: LoadedTile): Float32Array | null {
    const found = this.found.get(tile);
    if (found) return found === "asked" ? null : found;
    this.found.set(tile, "asked");
    void this.read(tile);
    return null;
  }

  /** Allow failed requests to be made again. */
  retry(): void {
    for (const tile of this.failed) this.found.delete(tile);
    this.failed = new Set();
  }

  private async read(tile: LoadedTile): Promise<void> {
    try {
      this.found.set(tile, (await tileColumns.value!.read(tile, this.column)).map(sizeFactorOf(this.column)));
    } catch (error) {
      this.failed.add(tile);
      state.report(`Size by ${this.column.name}`, error as Error);
    }
    this.revision += 1;
    this.changed();
  }
}
