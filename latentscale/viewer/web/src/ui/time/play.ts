/** A stretch of time that moves over the map by itself. */

import { firstStretch, nextStretch, type Stretch } from "../../engine/time";
import * as state from "../../state";
import type { StripSettings } from "./strip-settings";

/** Seconds in which a stretch passes over the whole strip. */
const SECONDS: Record<StripSettings["speed"], number> = { slow: 60, normal: 25, fast: 10 };
/** Milliseconds that a step has at least: the map is drawn in between. */
const MIN_STEP_MS = 90;

/** Motion that nobody wants: then there are only single steps. */
export const reducedMotion = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;

let timer = 0;

/** What is asked at each step, so that a change while it plays counts at once. */
export interface PlayState {
  bars: number;
  stretch: Stretch | null;
  kept: StripSettings;
}

export function play(now: () => PlayState | null, show: (stretch: Stretch) => void): void {
  const first = now();
  if (!first) return;
  state.playing.value = true;
  show(firstStretch(first.stretch, first.bars, first.kept.grows));
  const step = (): void => {
    const found = now();
    const after = found?.stretch ? nextStretch(found.stretch, found.bars, found.kept.grows) : null;
    if (!found || !after) return pause();
    show(after);
    wait(found);
  };
  const wait = ({ bars, kept }: PlayState): void => {
    // After the frame in which the last one is drawn.
    timer = window.setTimeout(() => requestAnimationFrame(() => state.playing.value && step()), Math.max(MIN_STEP_MS, (1000 * SECONDS[kept.speed]) / bars));
  };
  wait(first);
}

export function pause(): void {
  clearTimeout(timer);
  state.playing.value = false;
}
