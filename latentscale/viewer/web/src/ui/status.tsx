/** Status displays: how much of the map is drawn, and errors. */

import { commands } from "../commands";
import { obstacleRef } from "../obstacles";
import * as state from "../state";
import { Icon } from "./icon";
import { count, plural } from "./words";

/** Status badge: number of documents drawn in the window, of all. */
export function Badge() {
  if (!state.manifest.value || state.trouble.value) return null;
  const { loading, reading } = state.drawn.value;
  return (
    <div class="badge" role="status" ref={obstacleRef(null)}>
      {(loading || reading) && <span class="pulse" aria-hidden="true" />}
      <DrawnStatus />
      <MissingStatus />
    </div>
  );
}

function DrawnStatus() {
  const { points, sampled, overBudget, loading, slowed, failedFiles, shaded } = state.drawn.value;
  const all = state.documents.value;
  if (!points && !loading && !failedFiles)
    return (
      <>
        {sampled ? "No document is drawn here yet: zoom in for more" : "No document is in view"}{" "}
        <button class="link" onClick={() => commands.home()}>
          Back to the map
        </button>
      </>
    );
  if (points >= all)
    return (
      <>
        {all > 1 && "All "}
        <b>{count(all)}</b> {all === 1 ? "document" : "documents"} drawn
      </>
    );
  const why = overBudget
    ? slowed
      ? "fewer points are drawn, to keep the page smooth"
      : "as many as this machine draws smoothly"
    : sampled
      ? "zoom in for more"
      : "all that are in view";
  return (
    <>
      <b>{count(points)}</b> of {count(all)} documents drawn{loading || failedFiles ? "" : `: ${why}`}
      {shaded && "; the shading behind them shows all"}
    </>
  );
}

/** Documents that are missing or grey because files could not be read. */
function MissingStatus() {
  const { failedFiles, failedDocuments, reading, grey } = state.drawn.value;
  const column = state.column.value?.name ?? "their colours";
  if (!failedFiles && !grey) return reading ? <span> · reading {column}: points are grey until then</span> : null;
  return (
    <>
      {failedFiles > 0 && (
        <span>
          {" · "}
          {failedDocuments ? `${plural(failedDocuments, "document")} around here missing` : "some are missing"}: {plural(failedFiles, "file")} could
          not be read
        </span>
      )}
      {grey > 0 && (
        <span>
          {" · "}
          {column} could not be read for {plural(grey, "document")}, which {grey === 1 ? "is" : "are"} grey
        </span>
      )}{" "}
      <button class="link" onClick={() => commands.retry()}>
        Try again
      </button>
    </>
  );
}

/** Non-fatal errors: files that could not be read. The map works without them. */
export function Problems() {
  const problems = [...state.problems.value];
  if (!problems.length || state.trouble.value) return null;
  return (
    <div class="card notice problems" role="alert" ref={obstacleRef(null)}>
      <ul>
        {problems.map(([what, text]) => (
          <li key={what}>
            <b>{what}:</b> {text}
          </li>
        ))}
      </ul>
      <button class="button" onClick={() => commands.retry()}>
        Try again
      </button>
      <button class="icon" aria-label="Dismiss" onClick={() => (state.problems.value = new Map())}>
        <Icon name="close" />
      </button>
    </div>
  );
}

/** Feedback on a user action. */
export function Notice() {
  const text = state.notice.value;
  if (!text) return null;
  return (
    <div class="card notice" role="alert">
      <span>{text}</span>
      <button class="icon" aria-label="Dismiss" onClick={() => (state.notice.value = null)}>
        <Icon name="close" />
      </button>
    </div>
  );
}

/** A fatal error. */
export function TroubleCard() {
  const trouble = state.trouble.value;
  if (!trouble) return null;
  return (
    <div class="veil solid">
      <div class="card help" role="alert">
        <h2>{trouble.title}</h2>
        <p>{trouble.text}</p>
        {trouble.command && <code>{trouble.command}</code>}
        {trouble.again && (
          <p>
            <button class="button" onClick={() => location.reload()}>
              Try again
            </button>
          </p>
        )}
      </div>
    </div>
  );
}
