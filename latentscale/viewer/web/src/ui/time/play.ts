/** Animation of the time range. */

import { firstStretch, nextStretch, type Stretch } from "../../engine/time";
import * as state from "../../state";
import type { StripSettings } from "./strip-settings";

/** Duration in seconds over all bars. */
const SECONDS: Record<StripSettings["speed"], number> = { slow: 60, normal: 25, fast: 10 };
/** Minimum duration of a step in ms, in which the map is drawn. */
const MIN_STEP_MS = 90;

/** Whether the user prefers reduced motion: then there is no animation. */
export const reducedMotion = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;

let timer = 0;

/** State read at each step, so that changes apply during the animation. */
export interface PlayState {
  bars: number;
  stretch: Stretch | null;
  kept: StripSettings;
}

/** Start the animation; `now` gives the current state, `show` sets a range. */
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
    // Wait until the last step has been drawn.
    timer = window.setTimeout(() => requestAnimationFrame(() => state.playing.value && step()), Math.max(MIN_STEP_MS, (1000 * SECONDS[kept.speed]) / bars));
  };
  wait(first);
}

export function pause(): void {
  clearTimeout(timer);
  state.playing.value = false;
}
