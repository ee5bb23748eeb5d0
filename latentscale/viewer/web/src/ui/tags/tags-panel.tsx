/** The tags panel: name the selection, colour by tags, and save tags as files for jobs. */

import { useEffect, useState } from "preact/hooks";
import { categoryCodeColour } from "../../map/shading";
import { sizeOf } from "../../engine/selection";
import { readTagFile } from "../../engine/tags";
import { selectDocuments } from "../../selecting";
import * as state from "../../state";
import { addTag, isPersisted, mapName, MAX_TAGGED, loadTags, removeTag } from "../../tagging";
import { PanelFrame } from "../panel-frame";
import { turn } from "../panel-registry";
import { rowIdsOf, save } from "../save";
import { Swatch } from "../swatch";
import { count, plural } from "../words";
import { tagFile } from "./tag-file";

const ID = "tags";

export function TagsPanel() {
  useEffect(() => {
    loadTags().catch((error: Error) => state.report("Tags", error));
  }, []);
  const list = state.tagged.value;
  const column = state.tagsColumn.value;
  const coloured = state.colour.value === state.TAGS;
  return (
    <PanelFrame
      name="Tags"
      header={<span role="status">{list.length ? plural(list.length, "tag") : "No tag yet"}</span>}
      closes="Close the tags"
      onClose={() => turn(ID, false)}
    >
      <AddTag />
      {!isPersisted.value && list.length > 0 && <p class="flag">This browser does not keep the tags: save them before you leave the page.</p>}
      <ul class="tags" aria-label="Tags, with their number of documents">
        {list.map(({ tag, name, documents }, i) => (
          <li key={name}>
            {column && <Swatch rgb={categoryCodeColour(column, i, state.theme.value)} hollow={!coloured} />}
            <span class="name" dir="auto" title={name}>
              {name}
            </span>
            <span class="size">
              {count(sizeOf(documents))}
              {sizeOf(documents) < tag.rowIds.length ? ` of ${count(tag.rowIds.length)} on this map` : ""}
            </span>
            <span class="links">
              <button class="link" aria-label={`Select ${name}`} onClick={() => void selectDocuments(documents)}>
                Select
              </button>
              <button class="link" aria-label={`Save ${name} as CSV`} onClick={() => void download([i])}>
                CSV
              </button>
              <button class="link" aria-label={`Remove ${name}`} onClick={() => void removeTag(name)}>
                Remove
              </button>
            </span>
            {tag.map !== mapName() && <span class="muted small">made on another map at this address</span>}
          </li>
        ))}
      </ul>
      <p class="links">
        {list.length > 0 && (
          <button class="link" aria-pressed={coloured} onClick={() => (state.colour.value = coloured ? "cluster" : state.TAGS)}>
            {coloured ? "Colour by cluster again" : "Colour by tags"}
          </button>
        )}
        {list.length > 1 && (
          <button class="link" onClick={() => void download(list.map((_, i) => i))}>
            Save all as CSV
          </button>
        )}
      </p>
      <label class="load-file">
        <span class="muted small">Read tags from a CSV that was saved here, or any with a column row_id</span>
        <input type="file" accept=".csv,text/csv" onChange={(event) => void read(event.currentTarget)} />
      </label>
      <p class="muted small">
        Use such a file in a job: <code>latentscale run … --only tag.csv</code>, or <code>--exclude tag.csv</code>.
      </p>
    </PanelFrame>
  );
}

function AddTag() {
  const [name, setName] = useState("");
  const [busy, setBusy] = useState(false);
  const selection = state.selected.value;
  const size = selection ? sizeOf(selection.documents) : 0;
  const add = async () => {
    if (size > MAX_TAGGED) return void (state.notice.value = `A tag holds ${count(MAX_TAGGED)} documents at most, and ${count(size)} are selected.`);
    setBusy(true);
    try {
      await addTag(name.trim(), await rowIdsOf(selection!.documents));
      setName("");
    } catch (error) {
      state.report("Tags", error as Error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <form
      class="field"
      onSubmit={(event) => {
        event.preventDefault();
        if (name.trim() && size && !busy) void add();
      }}
    >
      <input type="text" maxLength={80} placeholder={size ? `Name for ${plural(size, "selected document")}` : "Select documents first"} aria-label="Name of the tag" value={name} onInput={(event) => setName(event.currentTarget.value)} />
      <button class="button" disabled={!name.trim() || !size || busy}>
        Tag
      </button>
    </form>
  );
}

async function download(which: readonly number[]): Promise<void> {
  try {
    const chosen = which.map((i) => state.tagged.value[i]);
    const name = chosen.length === 1 ? chosen[0].name.replace(/[^\p{L}\p{N}_. -]/gu, "_") : "tags";
    save(await tagFile(chosen), `${name}.csv`);
  } catch (error) {
    state.report("Tags", error as Error);
  }
}

async function read(input: HTMLInputElement): Promise<void> {
  const file = input.files?.[0];
  if (!file) return;
  try {
    for (const [name, rowIds] of readTagFile(await file.text(), file.name)) {
      if (rowIds.length > MAX_TAGGED) throw new Error(`${name} has ${count(rowIds.length)} documents; a tag holds ${count(MAX_TAGGED)} at most.`);
      await addTag(name, rowIds);
    }
  } catch (error) {
    state.notice.value = (error as Error).message;
  } finally {
    input.value = "";
  }
}
