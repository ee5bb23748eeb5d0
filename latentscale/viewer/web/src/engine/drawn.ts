/** Documents that are drawn, in a shape: for maps too large to be asked as a whole. */

import type { LoadedTile } from "./generation";
import { joined, type Selection } from "./selection";
import { contains, relation, type Shape } from "./shape";

export function scanDrawn(tiles: readonly LoadedTile[], shape: Shape | null, shows: (tile: LoadedTile, i: number) => boolean): Selection {
  const made = new Map<number, [number, number][]>();
  for (const tile of tiles) {
    if (shape && relation(shape, tile.bounds) === "outside") continue;
    const step = (tile.bounds.x1 - tile.bounds.x0) / 65536;
    const pairs = made.get(tile.generation.number) ?? [];
    made.set(tile.generation.number, pairs);
    for (let i = 0; i < tile.count; i++) {
      if (!shows(tile, i)) continue;
      if (shape && !contains(shape, tile.bounds.x0 + (tile.xy[2 * i] + 0.5) * step, tile.bounds.y0 + (tile.xy[2 * i + 1] + 0.5) * step)) continue;
      pairs.push([tile.info.first + i, tile.info.first + i + 1]);
    }
  }
  return new Map([...made].filter(([, pairs]) => pairs.length).map(([number, pairs]) => [number, joined(pairs)]));
}
