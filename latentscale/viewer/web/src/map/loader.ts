/** Loads the tiles that a view needs in order of priority, and cancels those that left the view. */

import type { Generation, LoadedTile } from "../engine/generation";
import { chooseAll, type Box, type Choice, type TileInfo } from "../engine/lod";

const CONCURRENCY = 6;
/** Tiles outside the view are cached up to this number of points. */
const KEPT_POINTS = 3_000_000;

export interface Drawn {
  tiles: LoadedTile[];
  /** Whether points in view are left out, and whether because of the budget. */
  sampled: boolean;
  overBudget: boolean;
  loading: boolean;
  /** Share of the largest generation's documents in view that is drawn; NaN if it has none there. */
  rate: number;
  /** Files in view that could not be read, and the number of documents in these tiles. */
  failedFiles: number;
  failedDocuments: number;
}

export class TileLoader {
  private readonly loaded = new Map<string, LoadedTile>();
  private readonly running = new Map<string, AbortController>();
  private wanted: { generation: Generation; info: TileInfo; name: string; share: number }[] = [];
  private readonly failed = new Set<string>();
  private last: Choice[] = [];
  private pagesLoading = 0;
  private readonly largest: number;

  constructor(
    private readonly generations: readonly Generation[],
    private readonly changed: () => void,
    private readonly problem: (error: Error) => void,
  ) {
    const sizes = generations.map(({ entry }) => entry.documents);
    this.largest = sizes.indexOf(Math.max(...sizes));
  }

  /**
   * Choose the tiles to draw, and start loading missing ones. With `whole`, small generations are not sampled along
   * with the largest.
   */
  want(view: Box, scale: number, budget: number, minEdge: number, whole: boolean): void {
    const trees = this.generations.map((generation) => generation.tree);
    this.last = chooseAll(trees, { view, scale, budget, minEdge }, whole);
    this.wanted = this.last
      .flatMap((choice, i) =>
        choice.tiles.map((info, k) => ({
          generation: this.generations[i],
          info,
          name: `${i}/${info.key}`,
          share: choice.shares[k],
        })),
      )
      .sort((a, b) => a.info.z - b.info.z);
    const wantedNames = new Set(this.wanted.map((item) => item.name));
    for (const [name, controller] of this.running) {
      if (wantedNames.has(name)) continue;
      controller.abort();
      this.running.delete(name);
    }
    this.last.forEach((choice, i) => {
      for (const key of choice.pages) {
        if (this.running.has(`page ${i}/${key}`) || this.failed.has(`page ${i}/${key}`)) continue;
        this.pagesLoading += 1;
        this.running.set(`page ${i}/${key}`, new AbortController());
        this.generations[i]
          .page(key)
          .catch((error: Error) => this.fail(`page ${i}/${key}`, error))
          .finally(() => {
            this.pagesLoading -= 1;
            this.running.delete(`page ${i}/${key}`);
            this.changed();
          });
      }
    });
    this.pump();
  }

  drawn(): Drawn {
    const tiles: LoadedTile[] = [];
    let loading = this.pagesLoading > 0;
    let failedDocuments = 0;
    let failedFiles = this.last.reduce((sum, { pages }, i) => sum + pages.filter((key) => this.failed.has(`page ${i}/${key}`)).length, 0);
    for (const item of this.wanted) {
      const tile = this.loaded.get(item.name);
      if (tile) {
        tile.share = item.share;
        tiles.push(tile);
      } else if (this.failed.has(item.name)) {
        failedFiles += 1;
        failedDocuments += item.info.count;
      } else loading = true;
    }
    // Later generations are drawn on top.
    tiles.sort((a, b) => a.generation.number - b.generation.number || a.info.z - b.info.z);
    return {
      tiles,
      sampled: this.last.some((choice) => choice.sampled),
      overBudget: this.last.some((choice) => choice.overBudget),
      loading,
      rate: this.last.length ? this.last[this.largest].rate : NaN,
      failedFiles,
      failedDocuments,
    };
  }

  /** Allow failed files to be requested again. */
  retry(): void {
    this.failed.clear();
  }

  private pump(): void {
    for (const { generation, info, name } of this.wanted) {
      if (this.running.size >= CONCURRENCY) return;
      if (this.loaded.has(name) || this.running.has(name) || this.failed.has(name)) continue;
      const controller = new AbortController();
      this.running.set(name, controller);
      generation
        .tile(info, controller.signal)
        .then((tile) => {
          this.loaded.set(name, tile);
          this.evict();
        })
        .catch((error: Error) => {
          if (error.name !== "AbortError") this.fail(name, error);
        })
        .finally(() => {
          if (this.running.get(name) === controller) this.running.delete(name);
          this.changed();
          this.pump();
        });
    }
  }

  private fail(name: string, error: Error): void {
    this.failed.add(name);
    this.problem(error);
  }

  private evict(): void {
    let points = 0;
    for (const tile of this.loaded.values()) points += tile.count;
    if (points <= KEPT_POINTS) return;
    const names = new Set(this.wanted.map((item) => item.name));
    for (const [name, tile] of this.loaded) {
      if (points <= KEPT_POINTS) return;
      if (names.has(name)) continue;
      this.loaded.delete(name);
      points -= tile.count;
    }
  }
}
