/** The page: canvas and labels below, panels above, keys. */

import { useEffect } from "preact/hooks";
import { commands } from "../commands";
import * as state from "../state";
import { HoverCard, PinnedPanel } from "./cards";
import { Panel } from "./panel";
import { Badge, Help, Notice, Toolbar, TroubleCard } from "./chrome";

export function App() {
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  return (
    <>
      <main class="stage">
        <canvas id="canvas" tabIndex={0} aria-label="Map of the documents. Arrow keys pan, plus and minus zoom, Enter pins the document in the middle." />
        <svg id="overlay" aria-hidden="true" />
        <div class="crosshair" aria-hidden="true" />
        <div id="labels" aria-hidden="true" />
        <Toolbar />
        <Badge />
        <HoverCard />
      </main>
      <Panel />
      <PinnedPanel />
      <Help />
      <Notice />
      <TroubleCard />
    </>
  );
}

function onKey(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target as HTMLElement;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
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
    t: toggleTheme,
    "/": () => {
      const find = () => document.getElementById("find")?.focus();
      if (state.panelOpen.value) return find();
      state.panelOpen.value = true;
      requestAnimationFrame(find);
    },
  };
  // Arrows scroll the list while it has the focus.
  if (!target.closest(".panel, .document"))
    Object.assign(actions, {
      ArrowLeft: () => commands.pan(-step, 0),
      ArrowRight: () => commands.pan(step, 0),
      ArrowUp: () => commands.pan(0, step),
      ArrowDown: () => commands.pan(0, -step),
    });
  if (target.id === "canvas") actions.Enter = () => commands.pinCentre();
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

/** One thing at a time, the topmost first. */
function escape(target: HTMLElement, typing: boolean): void {
  if (state.helpOpen.value) state.helpOpen.value = false;
  else if (state.settingsOpen.value) state.settingsOpen.value = false;
  else if (state.notice.value) state.notice.value = null;
  else if (state.pinned.value) state.pinned.value = null;
  else if (state.isolated.value.size || state.categories.value.size) {
    state.isolated.value = new Set();
    state.categories.value = new Set();
  }
  if (typing) target.blur();
}

export function toggleTheme(): void {
  state.themeChosen.value = true;
  state.theme.value = state.theme.value === "dark" ? "light" : "dark";
}
