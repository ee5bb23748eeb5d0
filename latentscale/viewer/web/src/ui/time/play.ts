/** A stretch of time that moves over the map by itself. */

import { begin, next, type Stretch } from "../../engine/time";
import * as state from "../../state";
import type { Kept } from "./strip-settings";

/** Seconds in which a stretch passes over the whole strip. */
const SECONDS: Record<Kept["speed"], number> = { slow: 60, normal: 25, fast: 10 };
/** Milliseconds that a step has at least: the map is drawn in between. */
const LEAST = 90;

/** Motion that nobody wants: then there are only single steps. */
export const still = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;

let timer = 0;

/** What is asked at each step, so that a change while it plays counts at once. */
export interface Played {
  bars: number;
  stretch: Stretch | null;
  kept: Kept;
}

export function play(now: () => Played | null, show: (stretch: Stretch) => void): void {
  const first = now();
  if (!first) return;
  state.playing.value = true;
  show(begin(first.stretch, first.bars, first.kept.grows));
  const step = (): void => {
    const found = now();
    const after = found?.stretch ? next(found.stretch, found.bars, found.kept.grows) : null;
    if (!found || !after) return pause();
    show(after);
    wait(found);
  };
  const wait = ({ bars, kept }: Played): void => {
    // After the frame in which the last one is drawn.
    timer = window.setTimeout(() => requestAnimationFrame(() => state.playing.value && step()), Math.max(LEAST, (1000 * SECONDS[kept.speed]) / bars));
  };
  wait(first);
}

export function pause(): void {
  clearTimeout(timer);
  state.playing.value = false;
}
