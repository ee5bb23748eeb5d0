/** How large each point of a tile is by a column, read as tiles come; the script comes with the first column. */

import type { NumberColumn } from "../engine/format";
import type { LoadedTile } from "../engine/generation";
import { sizeFactorOf } from "../engine/size-scale";
import { tileColumns } from "../filtering";
import * as state from "../state";

export class SizeFactors {
  /** Changes when a tile's values have come, or have failed to. */
  come = 0;
  private readonly found = new WeakMap<LoadedTile, Float32Array | "asked">();
  private failed = new Set<LoadedTile>();

  constructor(
    readonly column: NumberColumn,
    private readonly changed: () => void,
  ) {}

  /** Factors of the points' diameters; null while they are not known: then points are as large as without a column. */
  of(tile: LoadedTile): Float32Array | null {
    const found = this.found.get(tile);
    if (found) return found === "asked" ? null : found;
    this.found.set(tile, "asked");
    void this.read(tile);
    return null;
  }

  /** Ask again for what could not be read. */
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
    this.come += 1;
    this.changed();
  }
}
