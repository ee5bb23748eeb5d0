/** Close up, the points of coarse tiles are drawn where they lie between the steps of their tiles: read when that shows. */

import type { LoadedTile } from "../engine/generation";

export class Refinement {
  private readonly asked = new WeakSet<LoadedTile>();
  private missing: LoadedTile[] = [];

  constructor(
    private readonly changed: () => void,
    private readonly problem: (error: Error) => void,
  ) {}

  /** Ask for the places of tiles whose steps are wider than a pixel, at so many pixels a unit of the map. */
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

  /** Ask again for what could not be read. */
  retry(): void {
    for (const tile of this.missing) this.asked.delete(tile);
    this.missing = [];
  }
}
