/** Controls of the 3-D view. */

import * as state from "../state";
import { Icon } from "./icon";
import { Check } from "./check";
import { Slider } from "./slider";

export function toggleSpace(): void {
  state.inSpace.value = !state.inSpace.value;
}

export function SpaceButtons() {
  if (!state.hasHeights.value) return null;
  const on = state.spatial.value;
  const turning = state.turning.value;
  return (
    <>
      <button class="icon" aria-label="Turn the map in space" aria-pressed={on} title={on ? "Show the map in 2-D (3)" : "Turn the map in space (3)"} onClick={toggleSpace}>
        <Icon name="space" />
      </button>
      {on && (
        <button
          class="icon"
          aria-label={turning ? "Stop rotating" : "Rotate automatically"}
          title={turning ? "Stop rotating" : "Rotate automatically, while nobody moves the map"}
          onClick={() => (state.turning.value = !turning)}
        >
          <Icon name={turning ? "pause" : "play"} />
        </button>
      )}
    </>
  );
}

/** Settings of the 3-D view, shown with those of the points. */
export function SpaceSettings() {
  if (!state.spatial.value) return null;
  return (
    <>
      <Slider name="Height" value={state.heightFactor.value} from={0.25} to={4} set={(v) => (state.heightFactor.value = v)} />
      <Check name="Larger points where space is sparse" value={state.sizeBySparsity} />
      <Check name="Grid and axes" value={state.gridShown} />
    </>
  );
}
