/** Help dialog on keys and pointer, loaded on demand. */

import { useEffect, useRef } from "preact/hooks";
import * as state from "../state";
import { panels } from "./panel-registry";

const KEYS: [key: string, does: string][] = [
  ["drag, arrows", "move"],
  ["wheel, + and −", "zoom"],
  ["Home", "the first view"],
  ["0", "the whole map, outliers too"],
  ["rest on a point", "read it"],
  ["click a point", "pin it with all its columns"],
  ["Enter on the map", "pin the document in the middle"],
  ["Shift and drag", "select what lies in a box; with Alt too, in a lasso"],
  ["b and l", "draw boxes, or lassos, until Esc: Shift adds, Alt takes away, both keep what is in both"],
  ["click in the list", "isolate clusters, several if you like"],
  ["arrows in the topics", "go through them, open them and close them; letters find a name"],
];
const LAST_KEYS: typeof KEYS = [
  ["n and p", "the next document of the list, and the one before"],
  ["t", "dark or light"],
  ["Esc", "close, then show all again"],
];

const panelKeys = (): typeof KEYS => panels().flatMap(({ key }) => (key ? [[key.name, key.does]] : []));

const spaceKeys = (): [key: string, does: string][] =>
  state.hasHeights.value
    ? [
        ["3", "turn the map in space, or lay it flat"],
        ["drag, arrows", "in space: turn"],
        ["Shift and drag, Shift and arrows", "in space: move; the right button, too"],
      ]
    : [];

export function HelpDialog() {
  const close = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    // Move the focus into the dialog, and restore it on close.
    const previousFocus = document.activeElement as HTMLElement | null;
    close.current?.focus({ preventScroll: true });
    return () => previousFocus?.focus();
  }, []);
  return (
    <div class="veil" onClick={() => (state.helpOpen.value = false)}>
      <div class="card help keys" role="dialog" aria-modal="true" aria-label="Help" onKeyDown={trapFocus} onClick={(event) => event.stopPropagation()}>
        <header>
          <h2>Around the map</h2>
          <button class="button" ref={close} onClick={() => (state.helpOpen.value = false)}>
            Close
          </button>
        </header>
        <dl>
          {[...KEYS, ...panelKeys(), ...spaceKeys(), ...LAST_KEYS].map(([key, does]) => (
            <div key={key}>
              <dt>{key}</dt>
              <dd>{does}</dd>
            </div>
          ))}
        </dl>
        <p class="muted small">
          Each point is a document; documents that say similar things lie close together. Distances between far groups
          mean little. The address of this page keeps the view: share it.
        </p>
      </div>
    </div>
  );
}

/** Focus trap: the dialog has a single button. */
function trapFocus(event: KeyboardEvent): void {
  if (event.key === "Tab") event.preventDefault();
}
