/** The editing part of a cluster's card. */

import { useEffect, useRef, useState } from "preact/hooks";
import { editsByRef, editCluster, isPersisted, publishedCluster, loadEdits, undoEdit } from "../../editing";
import { textError, oneLine } from "../../engine/edits";
import * as state from "../../state";
import { setOpen } from "../panel-registry";
import { EditMarks } from "./edit-marks";

/** The focused element was removed: focus the edit button. */
const focusEdit = () => requestAnimationFrame(() => document.querySelector<HTMLElement>("[data-edits]")?.focus());

/** Edits of the isolated cluster, if there is exactly one. */
export function ClusterEdits() {
  loadEdits();
  const [ref] = state.isolated.value;
  const cluster = ref === undefined ? undefined : state.clustersByRef.value.get(ref);
  if (!cluster) return null;
  const edit = editsByRef.value.get(ref);
  const found = cluster.found ?? publishedCluster(ref)?.cluster.label;
  return (
    <>
      {edit && (
        <p class="links small">
          <span class="muted">
            <EditMarks cluster={cluster} /> {found !== cluster.label && `It was found as “${found}”.`}
          </span>
          <button
            class="link"
            onClick={() => {
              undoEdit(edit);
              focusEdit();
            }}
          >
            Undo
          </button>
          <button class="link" onClick={() => setOpen("edits", true)}>
            All edits
          </button>
          {!isPersisted.value && <span class="flag">This browser does not keep edits: save them before you leave the page.</span>}
        </p>
      )}
      {state.editing.value === ref && <EditForm key={ref} at={ref} />}
    </>
  );
}

function EditForm({ at }: { at: string }) {
  const cluster = state.clustersByRef.value.get(at)!;
  const { cluster: published, detail } = publishedCluster(at)!;
  const edit = editsByRef.value.get(at);
  const [name, setName] = useState(cluster.label);
  const [description, setDescription] = useState(edit?.describe ?? detail?.description ?? "");
  const [hidden, setHidden] = useState(cluster.hidden ?? false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    field.current?.focus();
    field.current?.select();
    // Leaving the card discards unsaved input.
    return () => {
      if (state.editing.value === at) state.editing.value = null;
    };
  }, []);
  const [label, text] = [oneLine(name), oneLine(description)];
  const faults = { rename: label ? textError("rename", label) : "A cluster needs a name.", describe: textError("describe", text) };
  const close = (): void => {
    state.editing.value = null;
    focusEdit();
  };
  const found = published.found;
  return (
    <form
      class="edit-form"
      aria-label="Edit the cluster"
      onSubmit={(event) => {
        event.preventDefault();
        if (faults.rename || faults.describe) return;
        editCluster(at, { rename: label, describe: text || (detail?.description ?? ""), hide: hidden });
        close();
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        close();
      }}
    >
      <label>
        <span>Name</span>
        <input type="text" ref={field} dir="auto" value={name} aria-invalid={faults.rename !== null} onInput={(event) => setName(event.currentTarget.value)} />
      </label>
      {faults.rename && <p class="flag" role="alert">{faults.rename}</p>}
      {found !== undefined && label !== found && (
        <button type="button" class="link small" onClick={() => setName(found)}>
          Back to the name that was found: {found}
        </button>
      )}
      <label>
        <span>Description</span>
        <textarea
          rows={3}
          dir="auto"
          value={description}
          aria-invalid={faults.describe !== null}
          placeholder={detail?.description ? "Empty: unchanged" : "A sentence on what is in it"}
          onInput={(event) => setDescription(event.currentTarget.value)}
        />
      </label>
      {faults.describe && <p class="flag" role="alert">{faults.describe}</p>}
      <label class="check">
        <input type="checkbox" checked={hidden} onChange={(event) => setHidden(event.currentTarget.checked)} />
        <span>Hide its label on the map</span>
      </label>
      <p class="links">
        <button class="button" disabled={faults.rename !== null || faults.describe !== null}>
          Keep
        </button>
        <button type="button" class="link" onClick={close}>
          Cancel
        </button>
      </p>
    </form>
  );
}
