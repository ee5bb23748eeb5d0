/** A document under the pointer, and one that was pinned; a cluster that was chosen. */

import { useEffect, useState } from "preact/hooks";
import { commands } from "../commands";
import type { ClusterEntry } from "../engine/format";
import type { Document } from "../engine/generation";
import { generationName } from "../engine/merge";
import * as state from "../state";
import { Icon } from "./icon";
import { ClusterPath, ClusterSwatch } from "./swatch";
import { count, linkOf, percent, shortened, valueText } from "./words";

const SHORT = 420;

function textOf(document: Document): string {
  const name = state.index.value?.text ?? null;
  const found = document.values.find(([column]) => column === name) ?? null;
  return found ? valueText(found[1]) : "";
}

/** A short value that names the document, if a column looks like a title. */
function titleOf(document: Document): string {
  const found = document.values.find(([column, value]) => /^(title|name|headline|subject|package)$/i.test(column) && value);
  return found ? valueText(found[1]) : "";
}

export function HoverCard() {
  const place = state.hoverCard.value;
  const hovered = state.hovered.value;
  if (!place || !hovered) return null;
  const right = place.left > innerWidth - 400;
  const low = place.top > innerHeight - 280;
  const style = {
    left: right ? "auto" : `${place.left + 16}px`,
    right: right ? `${innerWidth - place.left + 16}px` : "auto",
    top: low ? "auto" : `${place.top + 14}px`,
    bottom: low ? `${innerHeight - place.top + 14}px` : "auto",
  };
  const { document } = hovered;
  const text = document ? textOf(document) : "";
  const title = document ? titleOf(document) : "";
  return (
    <div class="card hover-card" style={style} role="status">
      <ClusterPath id={hovered.cluster} />
      {title && <strong class="hover-title">{title}</strong>}
      {document ? (
        <p>{text ? shortened(text, SHORT) : title ? "" : <Brief document={document} />}</p>
      ) : (
        <p class="muted">{hovered.failed ? "The document could not be read." : "Reading…"}</p>
      )}
    </div>
  );
}

/** Without a text column: the first few values. */
function Brief({ document }: { document: Document }) {
  return (
    <>
      {document.values.slice(0, 3).map(([column, value]) => (
        <span class="brief" key={column}>
          <span class="muted">{column} </span>
          {shortened(valueText(value), 120)}
        </span>
      ))}
    </>
  );
}

export function PinnedPanel() {
  const pinned = state.pinned.value;
  if (!pinned) return <ClusterPanel />;
  const { document } = pinned;
  const text = textOf(document);
  const title = titleOf(document);
  const textColumn = state.index.value?.text;
  return (
    <aside class="card document" aria-label="Pinned document">
      <header>
        <span class="muted">
          Document {count(document.rowId)}
          <Since generation={pinned.generation} />
        </span>
        <button class="icon" aria-label="Close the document" title="Close (Esc)" onClick={() => (state.pinned.value = null)}>
          <Icon name="close" />
        </button>
      </header>
      <div class="scroll" tabIndex={0}>
        <ClusterPath id={pinned.cluster} />
        {title && <h2>{title}</h2>}
        {text && <p class="document-text">{text}</p>}
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
      </div>
    </aside>
  );
}

/** When a document joined the map, if it was not there from the first. */
function Since({ generation }: { generation: number }) {
  const entry = state.manifest.value?.generations[generation];
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

/** When one cluster is isolated: what it is about. */
function ClusterPanel() {
  const refs = [...state.isolated.value];
  const cluster = refs.length === 1 ? state.byRef.value.get(refs[0]) : undefined;
  const list = state.labels.value?.clusters ?? [];
  const detail = cluster && state.details.value?.[list.indexOf(cluster)];
  if (!cluster || !detail) return null;
  return (
    <aside class="card document" aria-label="Chosen cluster">
      <header>
        <span class="muted">{state.labels.value!.layers > 1 ? (cluster.layer ? `Cluster of layer ${cluster.layer}` : "Cluster") : "Cluster"}</span>
        <button class="icon" aria-label="Show all clusters" title="Show all (Esc)" onClick={() => (state.isolated.value = new Set())}>
          <Icon name="close" />
        </button>
      </header>
      <div class="scroll" tabIndex={0}>
        <h2 class="cluster-title">
          <ClusterSwatch cluster={cluster} /> {cluster.label}
        </h2>
        <p class="muted">
          {count(cluster.size)} of {count(state.documents.value)} documents ({percent(cluster.size, state.documents.value)});{" "}
          {count(cluster.nearest)} with the noise nearest to it
        </p>
        {detail.keyphrases.length > 0 && (
          <p class="phrases">
            {detail.keyphrases.slice(0, 12).map((phrase) => (
              <span class="phrase" key={phrase}>
                {phrase}
              </span>
            ))}
          </p>
        )}
        <Exemplars key={`${cluster.layer}.${cluster.id}`} cluster={cluster} rows={detail.exemplars} />
      </div>
    </aside>
  );
}

/** The first few documents that are on the map: an exemplar may have left it since the clusters were labelled. */
async function firstOf(rows: readonly number[], wanted: number): Promise<Document[]> {
  const found: Document[] = [];
  for (let at = 0; at < rows.length && found.length < wanted; ) {
    const next = rows.slice(at, at + wanted - found.length);
    at += next.length;
    const read = await Promise.all(next.map((row) => commands.document(row).catch(() => null)));
    found.push(...read.filter((document) => document !== null));
  }
  return found;
}

function Exemplars({ cluster, rows }: { cluster: ClusterEntry; rows: number[] }) {
  const [documents, setDocuments] = useState<Document[] | null>(null);
  useEffect(() => {
    let gone = false;
    void firstOf(rows, 5).then((found) => {
      if (!gone) setDocuments(found);
    });
    return () => void (gone = true);
  }, [cluster]);
  if (!rows.length) return null;
  return (
    <>
      <h3>Exemplars</h3>
      {documents === null && <p class="muted">Reading…</p>}
      {documents?.map((document) => (
        <button class="exemplar" key={document.rowId} onClick={() => commands.pinRow(document.rowId)}>
          {titleOf(document) && <strong>{titleOf(document)}</strong>}
          <span>{shortened(textOf(document), 220) || <Brief document={document} />}</span>
        </button>
      ))}
    </>
  );
}
