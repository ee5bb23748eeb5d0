/** Highlighting: selected or found points that pass the filters are lit, all others dimmed. */

import type { LoadedTile } from "../engine/generation";
import { positionAt } from "../engine/positions";
import { maskOf, type Selection } from "../engine/selection";
import type { Row } from "../state";

/** Maximum points considered for rings, which are then thinned so that they do not overlap. */
const MAX_RINGED = 240;

export class Lit {
  /** Version of the highlight; empty without one. */
  key = "";
  private documents: Selection | null = null;
  private passing: ((tile: LoadedTile) => Uint8Array | null) | null = null;
  private readonly masks = new WeakMap<LoadedTile, { key: string; mask: Uint8Array | null }>();
  private turn = 0;

  /**
   * Set the highlight. `passing` gives the filter mask of a tile, null while unknown; it is itself null without
   * filters.
   */
  set(documents: Selection | null, passing: ((tile: LoadedTile) => Uint8Array | null) | null): void {
    this.documents = documents;
    this.passing = passing;
    this.invalidate();
  }

  /** Filter masks have changed: invalidate. */
  invalidate(): void {
    this.key = this.documents || this.passing ? `lit ${(this.turn += 1)}` : "";
  }

  /** Mask of the lit points of a tile; null if all are. */
  of(tile: LoadedTile): Uint8Array | null {
    if (!this.key) return null;
    const cached = this.masks.get(tile);
    if (cached?.key === this.key) return cached.mask;
    const passing = this.passing?.(tile) ?? null;
    let mask = passing;
    if (this.documents) {
      mask = maskOf(this.documents.get(tile.generation.number), tile.info.first, tile.count);
      if (passing) for (let i = 0; i < mask.length; i++) mask[i] &= passing[i];
    }
    this.masks.set(tile, { key: this.key, mask });
    return mask;
  }
}

/** Clusters of layer 0 with lit points, cached until the highlight or the tiles change. */
export class LitClusters {
  private key = "";
  private tiles: readonly LoadedTile[] = [];
  private found: ReadonlySet<number> | null = null;

  of(lit: Lit, tiles: readonly LoadedTile[]): ReadonlySet<number> | null {
    if (lit.key === this.key && tiles === this.tiles) return this.found;
    [this.key, this.tiles] = [lit.key, tiles];
    const masks = lit.key ? tiles.map((tile) => lit.of(tile)) : [];
    // While some masks are unknown, no cluster is dimmed.
    if (!masks.length || masks.some((mask) => mask === null)) return (this.found = null);
    const found = new Set<number>();
    masks.forEach((mask, t) => {
      const { cluster } = tiles[t];
      for (let i = 0; i < cluster.length; i++) if (mask![i]) found.add(cluster[i]);
    });
    return (this.found = found);
  }
}

/** Positions of the first documents of a list that are drawn and visible. */
export function ringsOf(rows: readonly Row[], tiles: readonly LoadedTile[], shows: (tile: LoadedTile, i: number) => boolean): DrawnPosition[] {
  const found = [];
  for (const row of rows) {
    if (found.length >= MAX_RINGED) break;
    const place = positionOf(row, tiles, shows);
    if (place) found.push(place);
  }
  return found;
}

export interface DrawnPosition {
  x: number;
  y: number;
  cluster: number;
}

/** Position of a document, if its tile is drawn and it is visible; else null. */
export function positionOf({ generation, position }: Row, tiles: readonly LoadedTile[], shows: (tile: LoadedTile, i: number) => boolean = () => true): DrawnPosition | null {
  for (const tile of tiles) {
    const i = position - tile.info.first;
    if (tile.generation !== generation || i < 0 || i >= tile.count) continue;
    if (!shows(tile, i)) return null;
    const [x, y] = positionAt(tile, i);
    return { x, y, cluster: tile.cluster[i] };
  }
  return null;
}
