/** Buttons, the badge that says what is drawn, help, and what went wrong. */

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { commands } from "../commands";
import { cover, covers } from "../covers";
import { clearOfPanels } from "../engine/insets";
import * as state from "../state";
import { Icon } from "./icon";
import { Slider } from "./slider";
import { SpaceButtons, spaceKeys, SpaceSettings } from "./space-controls";
import { isOpen, panels, toggle, withButton } from "./panel-registry";

export function Toolbar() {
  if (!state.manifest.value) return null;
  const dark = state.theme.value === "dark";
  const clear = clearOfPanels({ width: innerWidth, height: innerHeight }, covers.value);
  const buttons = withButton();
  return (
    <div class="toolbar" style={{ "--clear": clear === null ? "" : `${clear}px` }} role="toolbar" aria-label="View">
      <Group>
        <button class="icon" aria-label="Zoom in" title="Zoom in (+)" onClick={() => commands.zoom(0.6)}>
          <Icon name="plus" />
        </button>
        <button class="icon" aria-label="Zoom out" title="Zoom out (−)" onClick={() => commands.zoom(-0.6)}>
          <Icon name="minus" />
        </button>
        <button class="icon" aria-label="Back to the first view" title="First view (Home)" onClick={() => commands.home()}>
          <Icon name="home" />
        </button>
        <button class="icon" aria-label="Show the whole map" title="Whole map, outliers too (0)" onClick={() => commands.whole()}>
          <Icon name="whole" />
        </button>
      </Group>
      {buttons.length > 0 && (
        <Group kind="openers">
          {buttons.map((panel) => (
            <button
              class="icon"
              key={panel.id}
              data-opens={panel.id}
              aria-label={panel.title}
              aria-expanded={isOpen(panel)}
              title={panel.key ? `${panel.title} (${panel.key.name})` : panel.title}
              onClick={() => toggle(panel.id)}
            >
              <Icon path={panel.icon} />
            </button>
          ))}
        </Group>
      )}
      <Group>
        <SpaceButtons />
        <button class="icon" aria-label={dark ? "Light page" : "Dark page"} title="Dark or light (t)" onClick={state.toggleTheme}>
          <Icon name={dark ? "sun" : "moon"} />
        </button>
        <button
          class="icon"
          aria-label="Size and opacity of the points"
          aria-expanded={state.settingsOpen.value}
          title="Points"
          onClick={() => (state.settingsOpen.value = !state.settingsOpen.value)}
        >
          <Icon name="points" />
        </button>
        <button class="icon" aria-label="Help" aria-expanded={state.helpOpen.value} title="Help (?)" onClick={() => (state.helpOpen.value = !state.helpOpen.value)}>
          <Icon name="help" />
        </button>
      </Group>
      {state.settingsOpen.value && (
        <div class="card settings" ref={cover(null)}>
          <Slider name="Point size" value={state.sizeFactor.value} from={0.4} to={3} set={(v) => (state.sizeFactor.value = v)} />
          <Slider name="Opacity" value={state.opacityFactor.value} from={0.15} to={1.25} set={(v) => (state.opacityFactor.value = v)} />
          <SpaceSettings />
        </div>
      )}
    </div>
  );
}

function Group({ kind = "", children }: { kind?: string; children: ComponentChildren }) {
  return (
    <div class={`card buttons ${kind}`} ref={cover("right")}>
      {children}
    </div>
  );
}

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
];
const LAST_KEYS: typeof KEYS = [
  ["n and p", "the next document of the list, and the one before"],
  ["t", "dark or light"],
  ["Esc", "close, then show all again"],
];

const panelKeys = (): typeof KEYS => panels().flatMap(({ key }) => (key ? [[key.name, key.does]] : []));

export function Help() {
  return state.helpOpen.value ? <HelpDialog /> : null;
}

function HelpDialog() {
  const close = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    // Keys go to the dialog while it is open, and afterwards to where they went before.
    const before = document.activeElement as HTMLElement | null;
    close.current?.focus();
    return () => before?.focus();
  }, []);
  return (
    <div class="veil" onClick={() => (state.helpOpen.value = false)}>
      <div class="card help" role="dialog" aria-modal="true" aria-label="Help" onKeyDown={stay} onClick={(event) => event.stopPropagation()}>
        <h2>Around the map</h2>
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
        <button class="button" ref={close} onClick={() => (state.helpOpen.value = false)}>
          Close
        </button>
      </div>
    </div>
  );
}

/** The dialog has one button: Tab has nowhere else to go. */
function stay(event: KeyboardEvent): void {
  if (event.key === "Tab") event.preventDefault();
}
