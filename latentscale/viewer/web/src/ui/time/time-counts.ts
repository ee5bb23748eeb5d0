/** The strip's counts: again whenever what is shown changes, but not for the stretch itself. */

import { signal } from "@preact/signals";
import { conditions, readBase, readColumn } from "../../counting";
import { passingAll, type Base } from "../../engine/crossfilter";
import { keyOf } from "../../engine/filters";
import { countTimes, type Bars, type TimeColumn, type TimeCounts } from "../../engine/time";
import * as state from "../../state";
import type { Told } from "./series";

export interface Counted extends TimeCounts {
  base: Base;
  bars: Bars;
  told: Told | null;
}

export const counted = signal<Counted | null>(null);
let turn = 0;

export async function countNow(time: TimeColumn, bars: Bars, told: Told | null): Promise<void> {
  const own = ++turn;
  try {
    const base = await readBase();
    const all = await conditions(base);
    const values = await readColumn(base, time.column);
    const key = keyOf(time.column);
    const tiles = base.tiles.map((tile) => ({
      times: values(tile).map(time.timeOf),
      there: passingAll(tile, []),
      passed: passingAll(tile, all, key),
      clusters: tile.cluster,
    }));
    if (own !== turn) return;
    counted.value = { ...countTimes(tiles, bars.edges, told && told.of, told?.series.length ?? 0), base, bars, told };
  } catch (error) {
    if (own === turn) state.report("Over time", error as Error);
  }
}
