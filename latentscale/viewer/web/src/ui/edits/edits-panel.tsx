/** The panel of cluster edits: lists them, and exports them for import into the map. */

import { useState } from "preact/hooks";
import { commands } from "../../commands";
import { addEdits, earlierEdits, edits, forgetEdits, isPersisted, mapId, loadEdits, undoEdit, undoAllEdits } from "../../editing";
import { editFile, editRef, readEditFile, type ClusterEdit } from "../../engine/edits";
import * as state from "../../state";
import { PanelFrame } from "../panel-frame";
import { turn } from "../panel-registry";
import { save } from "../save";
import { ClusterSwatch } from "../swatch";
import { plural, shortened } from "../words";

const ID = "edits";
const FILE = "edits.yaml";

/** Whether the map has updates: these keep its labels, so that edits need a refit. */
const hasUpdates = (): boolean => {
  const { generations } = state.manifest.value!;
  return generations.some(({ removed, placed }, i) => removed || (i > 0 && !placed));
};

const command = (): string => `latentscale labels import WORKSPACE ${FILE}${hasUpdates() ? " --refit" : ""}`;

export function EditsPanel() {
  loadEdits();
  const list = edits.value;
  return (
    <PanelFrame
      name="Edits of clusters"
      header={<span role="status">{list.length ? plural(list.length, "edited cluster") : "No cluster is edited"}</span>}
      closes="Close the edits"
      onClose={() => turn(ID, false)}
    >
      {!list.length && <p class="muted">Choose a cluster, then “Edit” on its card: rename it, describe it, or hide its label. What you edit is seen by you alone until it is in the map.</p>}
      {!isPersisted.value && list.length > 0 && <p class="flag">This browser does not keep the edits: save them before you leave the page.</p>}
      {list.length > 0 && <SaveEdits />}
      <ul class="tags" aria-label="Edits">
        {list.map((edit) => (
          <Edit key={editRef(edit)} edit={edit} />
        ))}
      </ul>
      <EarlierEdits />
      <label class="load-file">
        <span class="muted small">Read edits from a file that a page saved</span>
        <input type="file" accept=".yaml,.yml" onChange={(event) => void read(event.currentTarget)} />
      </label>
    </PanelFrame>
  );
}

/** Run an undo, then move the focus to the panel: the focused element is removed. */
function undoAndFocus(work: () => void): void {
  work();
  requestAnimationFrame(() => document.querySelector<HTMLElement>(`[data-panel="${ID}"] button`)?.focus());
}

function Edit({ edit }: { edit: ClusterEdit }) {
  const ref = editRef(edit);
  const cluster = state.clustersByRef.value.get(ref);
  const name = cluster?.label ?? edit.rename ?? edit.label;
  const changes = [edit.rename !== undefined && `found as “${edit.label}”`, edit.hide !== undefined && (edit.hide ? "label hidden" : "label shown again"), edit.describe && `described: ${shortened(edit.describe, 120)}`];
  return (
    <li>
      <ClusterSwatch cluster={cluster} />
      <span class="name" dir="auto" title={name}>
        {name}
      </span>
      <span class="muted small said">{changes.filter(Boolean).join(" · ")}</span>
      <span class="links">
        {cluster && (
          <button
            class="link"
            aria-label={`Show ${name}`}
            onClick={() => {
              state.isolated.value = new Set([ref]);
              commands.reveal(cluster);
            }}
          >
            Show
          </button>
        )}
        <button class="link" aria-label={`Undo the edit of ${name}`} onClick={() => undoAndFocus(() => undoEdit(edit))}>
          Undo
        </button>
      </span>
    </li>
  );
}

function SaveEdits() {
  const [status, setStatus] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(command());
      setStatus("Command copied");
    } catch {
      setStatus("This browser does not let the page copy: mark the command and copy it.");
    }
  };
  return (
    <>
      <p class="links">
        <button class="button" onClick={() => save(editFile(mapId(), edits.value, command()), FILE, "application/yaml")}>
          Save as {FILE}
        </button>
        <button class="link" onClick={() => undoAndFocus(undoAllEdits)}>
          Undo all
        </button>
      </p>
      <p class="muted small">
        Then one command, where the workspace is, makes a map with these edits for everybody{hasUpdates() ? "; since this one has grown by updates, its layout is computed again" : ""}:
      </p>
      <p class="command">
        <code>{command()}</code>
      </p>
      <p class="links small">
        <button class="link" onClick={() => void copy()}>
          Copy the command
        </button>
        <span role="status">{status}</span>
      </p>
    </>
  );
}

/** Offers to carry over edits from earlier maps at this address. */
function EarlierEdits() {
  return (
    <>
      {earlierEdits.value.map(([map, list]) => (
        <p class="links small" key={map}>
          <span class="muted">{plural(list.length, "cluster was", "clusters were")} edited on an earlier map at this address.</span>
          <button
            class="link"
            onClick={() => {
              reportUnmatched(addEdits(map, list));
              forgetEdits(map);
            }}
          >
            Transfer the edits
          </button>
          <button class="link" onClick={() => forgetEdits(map)}>
            Forget them
          </button>
        </p>
      ))}
    </>
  );
}

const reportUnmatched = (lost: number): void => {
  if (lost) state.notice.value = `${plural(lost, "edit is", "edits are")} of no cluster of this map: latentscale labels import goes by their documents.`;
};

async function read(input: HTMLInputElement): Promise<void> {
  const file = input.files?.[0];
  if (!file) return;
  try {
    const { map, edits: found } = readEditFile(await file.text(), file.name);
    reportUnmatched(addEdits(map, found));
  } catch (error) {
    state.notice.value = (error as Error).message;
  } finally {
    input.value = "";
  }
}
