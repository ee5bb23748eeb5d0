/** Panel of the pinned document, or of the isolated cluster. */

import { computed } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { commands } from "../../commands";
import type { ClusterEntry } from "../../engine/format";
import type { Document } from "../../engine/generation";
import { generationName } from "../../engine/merge";
import { section } from "../../engine/sections";
import { similarQuery, SIMILAR } from "../../engine/similar";
import { selectClusters } from "../../selecting";
import * as state from "../../state";
import { FirstValues, textOf, titleOf } from "../hover-card";
import { ColumnEvidence, Sibling } from "../cluster-evidence";
import { lazy } from "../lazy";
import { Highlighted } from "../highlighted";
import { PanelFrame } from "../panel-frame";
import { register, setOpen } from "../panel-registry";
import { ClusterPath, ClusterSwatch, ClusterName } from "../swatch";
import { pinnedIndex, stepInList } from "./documents";
import { count, linkOf, percent, reflowed, shortened, valueText } from "../words";

/** The isolated cluster, if there is exactly one and its details are loaded. */
const chosen = computed(() => {
  const refs = [...state.isolated.value];
  const cluster = refs.length === 1 ? state.clustersByRef.value.get(refs[0]) : undefined;
  const detail = cluster && state.details.value?.[state.labels.value!.clusters.indexOf(cluster)];
  return cluster && detail ? { cluster, detail } : null;
});

const ClusterEdits = lazy("Edits", async () => (await import("../edits/cluster-edits")).ClusterEdits, "muted small");
const PinnedImage = lazy("Image", async () => (await import("../image")).PinnedImage, "picture muted small");

register({
  id: "document",
  title: "Document or cluster",
  side: "right",
  open: () => state.pinned.value !== null || chosen.value !== null,
  Component: DocumentPanel,
});

function DocumentPanel() {
  const pinned = state.pinned.value;
  if (!pinned) return <ClusterPanel />;
  const { document } = pinned;
  const text = textOf(document);
  const title = titleOf(document);
  const textColumn = state.index.value?.text;
  return (
    <PanelFrame
      name="Pinned document"
      header={
        <>
          Document {count(document.rowId)}
          <AddedNote generation={pinned.generation} />
        </>
      }
      closes="Close the document"
      onClose={() => (state.pinned.value = null)}
    >
        <ClusterPath id={pinned.cluster} />
        <p class="links small">
          <ListSteps />
          <SimilarButton rowId={document.rowId} generation={pinned.generation} />
        </p>
        {title && (
          <h2 dir="auto">
            <Highlighted text={title} />
          </h2>
        )}
        {state.manifest.value?.images && <PinnedImage />}
        {text && (
          <p class="document-text" dir="auto">
            <Highlighted text={reflowed(text)} />
          </p>
        )}
        <dl>
          {document.values
            .filter(([column]) => column !== textColumn)
            .map(([column, value]) => (
              <div key={column}>
                <dt>{column}</dt>
                <dd>
                  <Value value={value} />
                </dd>
              </div>
            ))}
        </dl>
    </PanelFrame>
  );
}

/** Buttons to the previous and next document of the list, if it contains the pinned one. */
function ListSteps() {
  const at = pinnedIndex();
  if (at < 0 || !(state.listing.value || state.found.value)) return null;
  const all = state.rows.value.length;
  return (
    <span class="steps">
      <button class="link" disabled={at === 0} onClick={() => stepInList(-1)}>
        Previous
      </button>
      <span class="muted">
        {count(at + 1)} of {count(all)}
      </span>
      <button class="link" disabled={at === all - 1} onClick={() => stepInList(1)}>
        Next
      </button>
    </span>
  );
}

/** Button that searches similar documents, if neighbours are stored. */
function SimilarButton({ rowId, generation }: { rowId: number; generation: number }) {
  const index = state.index.value?.generations[generation];
  if (!index) return null;
  if (!section(index, SIMILAR)) return <span class="muted">Similar documents are not stored: publish the map again to get them.</span>;
  return (
    <button class="link" onClick={() => (state.query.value = similarQuery(rowId))}>
      More like this
    </button>
  );
}

/** When a document was added, unless it is in the first generation. */
function AddedNote({ generation }: { generation: number }) {
  const entry = state.manifest.value?.generations[generation];
  if (entry?.placed) return <> · placed, from {entry.placed}</>;
  return entry && generation > 0 ? <> · {entry.added ? `added ${entry.added}` : generationName(entry, generation).toLowerCase()}</> : null;
}

function Value({ value }: { value: unknown }) {
  const link = linkOf(value);
  if (link)
    return (
      <a href={link} target="_blank" rel="noopener noreferrer">
        {value as string}
      </a>
    );
  const text = valueText(value);
  return text ? <>{text}</> : <span class="muted">–</span>;
}

const SELECTS = { replace: "Select it", add: "Add it to the selection", subtract: "Remove it from the selection", intersect: "Keep what is selected of it" };

/** Details of the isolated cluster. */
function ClusterPanel() {
  if (!chosen.value) return null;
  const { cluster, detail } = chosen.value;
  const ref = `${cluster.layer}.${cluster.id}`;
  const editing = state.editing.value === ref;
  return (
    <PanelFrame
      name="Chosen cluster"
      header={cluster.layer ? "Coarser cluster" : "Cluster"}
      closes="Show all clusters"
      onClose={() => (state.isolated.value = new Set())}
    >
        <h2 class="cluster-title">
          <ClusterSwatch cluster={cluster} /> <ClusterName label={cluster.label} />
        </h2>
        {detail.description && <p class="description">{detail.description}</p>}
        <p class="muted">
          {count(cluster.size)} of {count(state.documents.value)} documents ({percent(cluster.size, state.documents.value)});{" "}
          {count(cluster.nearest)} with the noise nearest to it
        </p>
        <p class="links">
          <button class="link" onClick={() => commands.frame(cluster)}>
            Zoom to it
          </button>{" "}
          <button
            class="link"
            onClick={() => {
              setOpen("documents", true);
              commands.frame(cluster);
            }}
          >
            List its documents
          </button>{" "}
          <button class="link" onClick={() => void selectClusters([ref])}>
            {SELECTS[state.operation.value]}
          </button>{" "}
          {detail.exemplars.length > 0 && (
            <button class="link" data-edits aria-expanded={editing} onClick={() => (state.editing.value = editing ? null : ref)}>
              Edit
            </button>
          )}
        </p>
        {(editing || cluster.edited) && <ClusterEdits />}
        {detail.keyphrases.length > 0 && (
          <p class="phrases">
            {detail.keyphrases.slice(0, 12).map((phrase) => (
              <span class="phrase" key={phrase}>
                {phrase}
              </span>
            ))}
          </p>
        )}
        <ColumnEvidence detail={detail} />
        <Exemplars key={ref} cluster={cluster} rows={detail.exemplars} title="Exemplars" />
        <Sibling cluster={cluster} detail={detail}>
          <Exemplars key={ref} cluster={cluster} rows={detail.contrast ?? []} title="Its nearest documents" />
        </Sibling>
    </PanelFrame>
  );
}

/** The first `wanted` documents that exist: exemplars may have been removed since labelling. */
async function readExisting(rows: readonly number[], wanted: number): Promise<Document[]> {
  const found: Document[] = [];
  for (let at = 0; at < rows.length && found.length < wanted; ) {
    const next = rows.slice(at, at + wanted - found.length);
    at += next.length;
    const read = await Promise.all(next.map((row) => commands.document(row).catch(() => null)));
    found.push(...read.filter((document) => document !== null));
  }
  return found;
}

function Exemplars({ cluster, rows, title }: { cluster: ClusterEntry; rows: number[]; title: string }) {
  const [documents, setDocuments] = useState<Document[] | null>(null);
  useEffect(() => {
    let unmounted = false;
    void readExisting(rows, 5).then((found) => {
      if (!unmounted) setDocuments(found);
    });
    return () => void (unmounted = true);
  }, [cluster]);
  if (!rows.length) return null;
  return (
    <>
      <h3>{title}</h3>
      {documents === null && <p class="muted">Reading…</p>}
      {documents?.map((document) => (
        <button class="exemplar" key={document.rowId} onClick={() => commands.pinRow(document.rowId)}>
          {titleOf(document) && <strong>{titleOf(document)}</strong>}
          <span>{shortened(textOf(document), 220) || <FirstValues document={document} />}</span>
        </button>
      ))}
    </>
  );
}
