/** Reads refined positions of coarse tiles when the zoom makes their rounding visible. */

import type { LoadedTile } from "../engine/generation";

export class Refinement {
  private readonly asked = new WeakSet<LoadedTile>();
  private missing: LoadedTile[] = [];

  constructor(
    private readonly changed: () => void,
    private readonly problem: (error: Error) => void,
  ) {}

  /** Request refined positions of tiles whose steps exceed a pixel; `scale` is pixels per map unit. */
  fetch(tiles: readonly LoadedTile[], scale: number): void {
    for (const tile of tiles) {
      if (this.asked.has(tile) || !tile.generation.isCoarse(tile, scale)) continue;
      this.asked.add(tile);
      tile.generation
        .refine(tile)
        .then(this.changed)
        .catch((error: Error) => {
          this.missing.push(tile);
          this.problem(error);
        });
    }
  }

  /** Allow failed requests to be made again. */
  retry(): void {
    for (const tile of this.missing) this.asked.delete(tile);
    this.missing = [];
  }
}
