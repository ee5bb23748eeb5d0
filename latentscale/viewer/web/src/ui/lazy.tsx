/** Lazily loaded components. The manifest may not be loaded yet when an address opens one. */

import { signal } from "@preact/signals";
import type { ComponentType } from "preact";
import * as state from "../state";

export function lazy(name: string, load: () => Promise<ComponentType>, look = "card loading muted"): ComponentType {
  const loaded = signal<ComponentType | null>(null);
  let asked = false;
  return function Lazy() {
    if (!loaded.value && !asked) {
      asked = true;
      load()
        .then((component) => (loaded.value = component))
        .catch((error: Error) => {
          asked = false;
          state.report(name, error);
        });
    }
    const Loaded = state.manifest.value && loaded.value;
    return Loaded ? <Loaded /> : <p class={look}>{name}…</p>;
  };
}
