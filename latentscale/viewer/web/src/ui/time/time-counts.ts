/** Counts of the time histogram, recomputed when filters change, except for its own. */

import { signal } from "@preact/signals";
import { conditions, readCountedTiles, readColumn } from "../../counting";
import { conditionMask, type Base } from "../../engine/crossfilter";
import { keyOf } from "../../engine/filters";
import { countTimes, type Bars, type TimeColumn, type TimeCounts } from "../../engine/time";
import * as state from "../../state";
import type { SeriesSplit } from "./series";

export interface StripCounts extends TimeCounts {
  base: Base;
  bars: Bars;
  split: SeriesSplit | null;
}

export const stripCounts = signal<StripCounts | null>(null);
let latest = 0;

/** Recompute the counts; results of outdated calls are dropped. */
export async function updateCounts(time: TimeColumn, bars: Bars, split: SeriesSplit | null): Promise<void> {
  const own = ++latest;
  try {
    const base = await readCountedTiles();
    const all = await conditions(base);
    const values = await readColumn(base, time.column);
    const key = keyOf(time.column);
    const tiles = base.tiles.map((tile) => ({
      times: values(tile).map(time.timeOf),
      there: conditionMask(tile, []),
      passed: conditionMask(tile, all, key),
      clusters: tile.cluster,
    }));
    if (own !== latest) return;
    stripCounts.value = { ...countTimes(tiles, bars.edges, split && split.of, split?.series.length ?? 0), base, bars, split };
  } catch (error) {
    if (own === latest) state.report("Over time", error as Error);
  }
}
