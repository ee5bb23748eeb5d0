/** Global keyboard shortcuts. */

import { commands } from "../commands";
import * as state from "../state";
import { stepInList } from "./panels/documents";
import { toggleSpace } from "./space-controls";
import { closeLast, panels, toggle } from "./panel-registry";

export function onKey(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target as HTMLElement;
  // Sliders and checkboxes handle arrows and space, but no letters.
  const pressed = target instanceof HTMLInputElement && /^(range|checkbox|radio|button|file)$/.test(target.type);
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName) && !pressed;
  if (event.key === "Escape") return escape(target, typing);
  if (typing) return;
  const step = 90;
  const actions: Record<string, () => void> = {
    "+": () => commands.zoom(0.6),
    "=": () => commands.zoom(0.6),
    "-": () => commands.zoom(-0.6),
    _: () => commands.zoom(-0.6),
    "0": () => commands.whole(),
    Home: () => commands.home(),
    "?": () => (state.helpOpen.value = !state.helpOpen.value),
    t: state.toggleTheme,
    b: () => state.toggleTool("box"),
    l: () => state.toggleTool("lasso"),
    n: () => stepInList(1),
    p: () => stepInList(-1),
    ...(state.hasHeights.value ? { "3": toggleSpace } : {}),
  };
  for (const { id, key } of panels()) if (key) actions[key.name] = key.press ?? (() => toggle(id));
  if (pressed) delete actions.Home;
  // Arrows scroll a focused panel.
  else if (!target.closest(".side"))
    Object.assign(actions, {
      ArrowLeft: () => commands.pan(-step, 0, event.shiftKey),
      ArrowRight: () => commands.pan(step, 0, event.shiftKey),
      ArrowUp: () => commands.pan(0, step, event.shiftKey),
      ArrowDown: () => commands.pan(0, -step, event.shiftKey),
    });
  if (target.id === "canvas") actions.Enter = () => commands.pinCentre();
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

/** Escape closes one thing at a time, the topmost first. */
function escape(target: HTMLElement, typing: boolean): void {
  if (state.helpOpen.value) state.helpOpen.value = false;
  else if (state.settingsOpen.value) state.settingsOpen.value = false;
  else if (state.notice.value) state.notice.value = null;
  else if (state.problems.value.size) state.problems.value = new Map();
  else if (state.pinned.value) state.pinned.value = null;
  else if (state.tool.value) state.tool.value = null;
  else if (state.shownSelection.value) state.selected.value = null;
  else if (closeLast()) return;
  else if (state.query.value) state.query.value = "";
  else if (state.isolated.value.size || state.filters.value.size) {
    state.isolated.value = new Set();
    state.filters.value = new Map();
  }
  if (typing) target.blur();
}
