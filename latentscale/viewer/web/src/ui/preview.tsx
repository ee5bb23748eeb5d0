/** Card of a preview map. It reloads the page when a newer state is due; the address preserves the view. */

import { useEffect, useState } from "preact/hooks";
import { obstacleRef } from "../obstacles";
import * as state from "../state";
import { plural } from "./words";

/** Seconds without user input before a reload. */
const IDLE_SECONDS = 4;
/** Minimum seconds between reloads. */
const MIN_INTERVAL = 10;
const TOUCHES = ["pointerdown", "pointermove", "wheel", "keydown"] as const;

export function PreviewCard() {
  const { said, written, due } = state.manifest.value!.preview!;
  const age = () => Math.max(0, Date.now() / 1000 - written);
  const [minutes, setMinutes] = useState(Math.floor(age() / 60));
  useEffect(() => {
    let lastInput = -Infinity;
    const onInput = () => (lastInput = performance.now());
    for (const kind of TOUCHES) addEventListener(kind, onInput, { passive: true, capture: true });
    // Polled, since a hidden page or one in use waits.
    const timer = setInterval(() => {
      setMinutes(Math.floor(age() / 60));
      const isIdle = performance.now() - lastInput > 1000 * IDLE_SECONDS;
      const isDue = performance.now() > 1000 * Math.max(MIN_INTERVAL, due / 4);
      if (!document.hidden && isIdle && isDue && age() > due) location.reload();
    }, 1000);
    return () => {
      clearInterval(timer);
      for (const kind of TOUCHES) removeEventListener(kind, onInput, { capture: true });
    };
  }, []);
  return (
    <aside class="card preview" aria-label="Preview" ref={obstacleRef(null)}>
      <p>
        <b>Preview.</b> {said}
      </p>
      <p class="muted small">
        {minutes < 1 ? "Written just now" : `Written ${plural(minutes, "minute")} ago`};{" "}
        {age() > 4 * due + 60 ? "nothing newer has arrived: its run may have ended." : "this page reloads when more is done."}{" "}
        <button class="link" onClick={() => location.reload()}>
          Reload now
        </button>
      </p>
    </aside>
  );
}
