/** Heights of the points of tiles, and how dense space is around each: read when the map is turned in space. */

import { BANDS_COLUMN } from "../engine/density-bands";
import type { GenerationEntry } from "../engine/format";
import type { LoadedTile } from "../engine/generation";

export interface TileHeights {
  /** Height and rank of density, from 0 to 1, of each point: z0, rank0, z1, rank1, … */
  values: Float32Array;
}

/** The height of a step; `docs/viewer-format.md` has the formula. */
export const heightOf = ({ z }: GenerationEntry, step: number): number => z![0] + ((step + 0.5) / 65536) * (z![1] - z![0]);

export class Heights {
  /** Called when more are here. */
  changed: () => void = () => undefined;
  private readonly known = new WeakMap<LoadedTile, TileHeights | "loading" | "missing">();

  constructor(private readonly problem: (error: Error) => void) {}

  /** Wait until those of tiles are here, or cannot be read. */
  async ready(tiles: readonly LoadedTile[]): Promise<void> {
    await Promise.all(tiles.map((tile) => (this.known.has(tile) ? undefined : this.read(tile))));
  }

  /** Heights of a tile, asked for if they are not here; null until then. */
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
