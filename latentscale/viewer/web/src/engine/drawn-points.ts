/** Queries over drawn points only: the documents in a shape, for maps too large to scan, and their coordinates. */

import type { LoadedTile } from "./generation";
import { positionAt } from "./positions";
import { mergeRanges, type Selection } from "./selection";
import { contains, relation, type Shape } from "./shape";

/** The drawn documents for which `shows` is true, within a shape or, if it is null, anywhere. */
export function scanDrawn(tiles: readonly LoadedTile[], shape: Shape | null, shows: (tile: LoadedTile, i: number) => boolean): Selection {
  const pairsByGeneration = new Map<number, [number, number][]>();
  for (const tile of tiles) {
    if (shape && relation(shape, tile.bounds) === "outside") continue;
    const pairs = pairsByGeneration.get(tile.generation.number) ?? [];
    pairsByGeneration.set(tile.generation.number, pairs);
    for (let i = 0; i < tile.count; i++) {
      if (!shows(tile, i)) continue;
      if (shape && !contains(shape, ...positionAt(tile, i))) continue;
      pairs.push([tile.info.first + i, tile.info.first + i + 1]);
    }
  }
  return new Map([...pairsByGeneration].filter(([, pairs]) => pairs.length).map(([number, pairs]) => [number, mergeRanges(pairs)]));
}

/** Coordinates of the wanted points: x0, y0, x1, y1, … */
export function coordinatesOf(tiles: readonly LoadedTile[], wanted: (tile: LoadedTile, i: number) => boolean): number[] {
  const found: number[] = [];
  for (const tile of tiles) {
    for (let i = 0; i < tile.count; i++) if (wanted(tile, i)) found.push(...positionAt(tile, i));
  }
  return found;
}
