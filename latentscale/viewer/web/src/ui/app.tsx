/** Root component: canvas and labels below, panels above. */

import { useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { obstacles } from "../obstacles";
import { sheetTop } from "../engine/insets";
import { HoverCard } from "./hover-card";
import { Help, Toolbar } from "./toolbar";
import { lazy } from "./lazy";
import { onKey } from "./keys";
import "./panels";
import { Badge, Notice, Problems, TroubleCard } from "./status";
import { PanelSlots } from "./panel-slots";
import { ToolHint } from "./tool-hint";
import * as state from "../state";

const Preview = lazy("Preview", async () => (await import("./preview")).PreviewCard, "card preview");

/** Minimum height in px above bottom sheets for toolbar and status badge. */
const MIN_ROOM = 180;

export function App() {
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  useSignalEffect(() => {
    const room = sheetTop({ width: innerWidth, height: innerHeight }, obstacles.value);
    const { style } = document.documentElement;
    style.setProperty("--room", room === null ? "" : `${Math.round(room)}px`);
    // The status badge is hidden if there is no room between toolbar and sheets.
    style.setProperty("--told", room !== null && room < MIN_ROOM ? "hidden" : "");
  });
  return (
    <>
      <main class="stage">
        <svg id="grid" aria-hidden="true" />
        <canvas key={state.canvas.value} id="canvas" tabIndex={0} aria-label="Map of the documents. Arrow keys pan, plus and minus zoom, Enter pins the document in the middle." />
        <svg id="overlay" aria-hidden="true" />
        <div class="crosshair" aria-hidden="true" />
        <div id="labels" aria-hidden="true" />
        <Toolbar />
        <Badge />
        <HoverCard />
        <ToolHint />
      </main>
      <PanelSlots />
      <Help />
      <div class="notices">
        <Problems />
        <Notice />
      </div>
      <TroubleCard />
      {state.manifest.value?.preview && <Preview />}
    </>
  );
}
