/** The toolbar over the map. */

import type { ComponentChildren } from "preact";
import { commands } from "../commands";
import { obstacleRef, obstacles } from "../obstacles";
import { buttonInset } from "../engine/insets";
import * as state from "../state";
import { Check } from "./check";
import { Icon } from "./icon";
import { lazy } from "./lazy";
import { Slider } from "./slider";
import { SpaceButtons, SpaceSettings } from "./space-controls";
import { isOpen, toggle, withButton } from "./panel-registry";

export function Toolbar() {
  if (!state.manifest.value) return null;
  const dark = state.theme.value === "dark";
  const clear = buttonInset({ width: innerWidth, height: innerHeight }, obstacles.value);
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
        <div class="card settings" ref={obstacleRef(null)}>
          <Slider name="Point size" value={state.sizeFactor.value} from={0.4} to={3} set={(v) => (state.sizeFactor.value = v)} />
          <Slider name="Opacity" value={state.opacityFactor.value} from={0.15} to={1.25} set={(v) => (state.opacityFactor.value = v)} />
          <SizeBy />
          {!state.spatial.value && <Check name="Lines of equal density" value={state.contours} />}
          <SpaceSettings />
        </div>
      )}
    </div>
  );
}

function Group({ kind = "", children }: { kind?: string; children: ComponentChildren }) {
  return (
    <div class={`card buttons ${kind}`} ref={obstacleRef("right")}>
      {children}
    </div>
  );
}

const SizeBy = lazy("Size by", async () => (await import("./size-by")).SizeBy, "muted small");
const HelpDialog = lazy("Help", async () => (await import("./help")).HelpDialog, "veil");

export function Help() {
  return state.helpOpen.value ? <HelpDialog /> : null;
}
