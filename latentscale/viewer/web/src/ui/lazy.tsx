/** Lazily loaded components. The manifest may not be loaded yet when an address opens one. */

import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import * as state from "../state";

/** A component that loads on first render; until then it shows `name` in the CSS class `look`. */
export function lazy(name: string, load: () => Promise<ComponentType>, look = "card loading muted"): ComponentType {
  const loaded = signal<ComponentType | null>(null);
  let requested = false;
  return function Lazy() {
    if (!loaded.value && !requested) {
      requested = true;
      load()
        .then((component) => (loaded.value = component))
        .catch((error: Error) => {
          requested = false;
          state.report(name, error);
        });
    }
    const Loaded = state.manifest.value && loaded.value;
    return Loaded ? <Loaded /> : <p class={look}>{name}…</p>;
  };
}
