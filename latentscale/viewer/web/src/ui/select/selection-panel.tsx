/** The selection panel: sources and operations of selections, and actions on them. */

import { useState } from "preact/hooks";
import { commands } from "../../commands";
import { isFiltering } from "../../filtering";
import { NARROW_WIDTH } from "../../engine/insets";
import { OPERATIONS, sizeOf, type Operation } from "../../engine/selection";
import { selectClusters, selectHits, selectShown } from "../../selecting";
import * as state from "../../state";
import { PanelFrame } from "../panel-frame";
import { setOpen, turn } from "../panel-registry";
import { count, percent, plural } from "../words";
import { DistinctiveFeatures } from "./distinctive";
import { Exports } from "./export";

const ID = "selection";

const NAMES: Record<Operation, string> = { replace: "New", add: "Add", subtract: "Subtract", intersect: "Keep" };
const MEANS: Record<Operation, string> = {
  replace: "a new selection",
  add: "what is selected, and these",
  subtract: "what is selected, without these",
  intersect: "what is selected and among these",
};

export function SelectionPanel() {
  return (
    <PanelFrame name="Selection" header={<Headline />} closes="Close the selection" onClose={() => turn(ID, false)}>
      <Operations />
      <Sources />
      <DistinctiveSection />
      <Exports selection={state.selected.value?.documents ?? null} />
    </PanelFrame>
  );
}

/** Computed on request, since it reads columns and texts. */
function DistinctiveSection() {
  const selected = state.selected.value;
  const [open, setOpened] = useState(false);
  if (!selected || !selected.documents.size) return null;
  return (
    <>
      <p>
        <button class="link" aria-expanded={open} onClick={() => setOpened(!open)}>
          What distinguishes it
        </button>
      </p>
      {open && <DistinctiveFeatures selection={selected.documents} />}
    </>
  );
}

function Headline() {
  const selected = state.selected.value;
  void state.drawn.value;
  if (state.selecting.value) return <span role="status">Selecting…</span>;
  if (!selected) return <span role="status">Nothing selected</span>;
  const size = sizeOf(selected.documents);
  const drawn = commands.drawnOf(selected.documents);
  return (
    <span role="status">
      {plural(size, "document")} selected ({percent(size, state.documents.value)}){drawn < size ? `, of which ${count(drawn)} are drawn` : ""}
    </span>
  );
}

function Operations() {
  return (
    <div class="choice" role="group" aria-label="What the next selection does">
      {OPERATIONS.map((one) => (
        <button key={one} aria-pressed={state.operation.value === one} title={MEANS[one]} onClick={() => (state.operation.value = one)}>
          {NAMES[one]}
        </button>
      ))}
    </div>
  );
}

function draw(tool: "box" | "lasso"): void {
  state.toggleTool(tool);
  // On a phone the panel covers the map.
  if (state.tool.value && innerWidth <= NARROW_WIDTH) setOpen(ID, false);
}

function Sources() {
  const selected = state.selected.value;
  const found = state.found.value;
  const isolated = state.isolated.value;
  const filtering = isFiltering();
  return (
    <>
      <div class="sources" role="group" aria-label="Select">
        <button class="button" aria-pressed={state.tool.value === "box"} title="Draw boxes (b)" onClick={() => draw("box")}>
          Box
        </button>
        <button class="button" aria-pressed={state.tool.value === "lasso"} title="Draw lassos (l)" onClick={() => draw("lasso")}>
          Lasso
        </button>
        <button class="button" onClick={() => void selectShown(commands.viewShape())}>
          All in view
        </button>
        {isolated.size > 0 && (
          <button class="button" onClick={() => void selectClusters(isolated)}>
            {plural(isolated.size, "chosen cluster")}
          </button>
        )}
        {filtering && (
          <button class="button" onClick={() => void selectShown(null)}>
            What passes the filters
          </button>
        )}
        {found && found.hits.length > 0 && (
          <button class="button" onClick={() => void selectHits()}>
            {count(found.hits.length)} found
          </button>
        )}
      </div>
      <p class="muted small">With the keyboard: move and zoom until the window shows the documents you want, then All in view.</p>
      {selected && (
        <p class="links">
          <button class="link" onClick={() => (state.selected.value = null)}>
            Clear
          </button>
          <button class="link" onClick={() => setOpen("documents", true)}>
            List them
          </button>
          <button class="link" onClick={() => setOpen("tags", true)}>
            Tag them
          </button>
        </p>
      )}
      {selected?.part && <p class="muted small">The map is too large here to be read as a whole: only what is drawn or listed was taken. Zoom in for more.</p>}
    </>
  );
}
