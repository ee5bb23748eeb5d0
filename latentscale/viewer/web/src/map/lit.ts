/** Which points a search has found: those are lit, and the others dimmed. */

import type { LoadedTile } from "../engine/generation";
import type { Row } from "../state";

/** Rings around so many points at most: more would hide the map. */
const MOST_RINGS = 60;

export class Lit {
  /** Changes when what was found does; empty while nothing is searched for. */
  key = "";
  private rows: readonly Row[] = [];
  private readonly positions = new Map<number, Float64Array>();
  private readonly masks = new WeakMap<LoadedTile, { key: string; mask: Uint8Array }>();
  private turn = 0;

  set(rows: readonly Row[] | null): void {
    this.rows = rows ?? [];
    this.key = rows ? `found ${(this.turn += 1)}` : "";
    this.positions.clear();
    const lists = new Map<number, number[]>();
    for (const { generation, position } of this.rows) {
      const list = lists.get(generation.number);
      if (list) list.push(position);
      else lists.set(generation.number, [position]);
    }
    for (const [number, list] of lists) this.positions.set(number, Float64Array.from(list).sort());
  }

  /** 1 for each point of a tile that was found; null while nothing is searched for. */
  of(tile: LoadedTile): Uint8Array | null {
    if (!this.key) return null;
    const kept = this.masks.get(tile);
    if (kept?.key === this.key) return kept.mask;
    const mask = new Uint8Array(tile.count);
    const { first } = tile.info;
    // Sorted, and few of them lie in any one tile.
    for (const position of this.positions.get(tile.generation.number) ?? [])
      if (position >= first && position < first + tile.count) mask[position - first] = 1;
    this.masks.set(tile, { key: this.key, mask });
    return mask;
  }

  /** The best of what was found that is drawn: where it lies. */
  rings(tiles: readonly LoadedTile[]): { x: number; y: number; cluster: number }[] {
    const found = [];
    for (const row of this.rows) {
      if (found.length >= MOST_RINGS) break;
      const place = placeOf(row, tiles);
      if (place) found.push(place);
    }
    return found;
  }
}

/** Where a document is, if its tile is here. */
export function placeOf({ generation, position }: Row, tiles: readonly LoadedTile[]): { x: number; y: number; cluster: number } | null {
  for (const tile of tiles) {
    const i = position - tile.info.first;
    if (tile.generation !== generation || i < 0 || i >= tile.count) continue;
    const { bounds, xy, cluster } = tile;
    const step = (bounds.x1 - bounds.x0) / 65536;
    return { x: bounds.x0 + (xy[2 * i] + 0.5) * step, y: bounds.y0 + (xy[2 * i + 1] + 0.5) * step, cluster: cluster[i] };
  }
  return null;
}
