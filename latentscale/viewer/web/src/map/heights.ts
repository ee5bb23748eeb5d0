/** Heights and local densities of points, read per tile for the 3-D view. */

import { BANDS_COLUMN } from "../engine/density-bands";
import type { GenerationEntry } from "../engine/format";
import type { LoadedTile } from "../engine/generation";

export interface TileHeights {
  /** Height and density rank (0 to 1) of each point: z0, rank0, z1, rank1, … */
  values: Float32Array;
}

/** The height of a quantised step; see `docs/viewer-format.md`. */
export const heightOf = ({ z }: GenerationEntry, step: number): number => z![0] + ((step + 0.5) / 65536) * (z![1] - z![0]);

export class Heights {
  /** Called when heights of a tile have arrived or failed. */
  changed: () => void = () => undefined;
  private readonly known = new WeakMap<LoadedTile, TileHeights | "loading" | "missing">();

  constructor(private readonly problem: (error: Error) => void) {}

  /** Resolve when the heights of all tiles have been read or have failed. */
  async ready(tiles: readonly LoadedTile[]): Promise<void> {
    await Promise.all(tiles.map((tile) => (this.known.has(tile) ? undefined : this.read(tile))));
  }

  /** Heights of a tile; null until loaded, requesting them if necessary. */
  of(tile: LoadedTile): TileHeights | null {
    const known = this.known.get(tile);
    if (!known) void this.read(tile);
    return typeof known === "object" ? known : null;
  }

  isMissing(tile: LoadedTile): boolean {
    return this.known.get(tile) === "missing";
  }

  retry(tiles: readonly LoadedTile[]): void {
    for (const tile of tiles) if (this.isMissing(tile)) this.known.delete(tile);
  }

  private async read(tile: LoadedTile): Promise<void> {
    this.known.set(tile, "loading");
    const { generation, info } = tile;
    try {
      const [steps, ranks] = await Promise.all([generation.column(info, "z"), generation.column(info, BANDS_COLUMN)]);
      const values = new Float32Array(2 * tile.count);
      for (let i = 0; i < tile.count; i++) {
        values[2 * i] = heightOf(generation.entry, steps[i]);
        values[2 * i + 1] = ranks[i] / 255;
      }
      this.known.set(tile, { values });
    } catch (error) {
      this.known.set(tile, "missing");
      this.problem(error as Error);
    }
    this.changed();
  }
}
