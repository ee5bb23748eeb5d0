/** Side panel: title, colouring, search and topics. */

import { commands } from "../../commands";
import { BANDS } from "../../engine/density-bands";
import { css } from "../../engine/colour";
import { NARROW_WIDTH } from "../../engine/insets";
import { ADDED, documentsOf, generationName } from "../../engine/merge";
import { SEARCH } from "../../engine/search-entry";
import { MEANING } from "../../engine/meaning";
import { parseSimilarQuery } from "../../engine/similar";
import { lastSection } from "../../engine/sections";
import { categoryCodeColour } from "../../map/shading";
import { BY_MEANING } from "../../document-search";
import { selectClusters } from "../../selecting";
import * as state from "../../state";
import { addedEntry, chooseCategories } from "../categories";
import { Icon } from "../icon";
import { lazy } from "../lazy";
import { register, setOpen, turn } from "../panel-registry";
import { count, percent, plural, shortened } from "../words";

const ID = "list";

register({
  id: ID,
  title: "Clusters and colours",
  side: "left",
  open: innerWidth > NARROW_WIDTH,
  Component: List,
  Closed: Opener,
  key: { name: "/", does: "find documents and clusters", press: focusSearch },
  kept: state.findBy,
});

function Opener() {
  const manifest = state.manifest.value;
  if (!manifest) return null;
  return (
    <button class="card panel-opener" data-opens={ID} aria-expanded="false" onClick={() => turn(ID, true)}>
      <Icon name="menu" /> {manifest.title}
    </button>
  );
}

function focusSearch(): void {
  const focus = () => document.getElementById("find")?.focus();
  // Immediately if the field exists, so that typed text goes into it.
  focus();
  setOpen(ID, true);
  requestAnimationFrame(() => {
    if (!document.activeElement?.closest(`[data-panel="${ID}"]`)) focus();
  });
}

function List() {
  const manifest = state.manifest.value;
  const labels = state.labels.value;
  if (!manifest) return null;
  const clusters = labels?.clusters.filter((c) => c.layer === 0).length ?? 0;
  return (
    <nav class="card panel" aria-label="Clusters and colours">
      <header>
        <h1 title={manifest.title}>{manifest.title}</h1>
        <button class="icon" aria-label="Close the list" aria-expanded="true" onClick={() => turn(ID, false)}>
          <Icon name="left" />
        </button>
      </header>
      <p class="facts">
        <span>{plural(state.documents.value, "document")}</span>
        {labels && !manifest.preview && (
          <>
            {" "}
            <span>· {plural(clusters, "cluster")}</span> <span>· {percent(state.noise.value, state.documents.value)} noise</span>
          </>
        )}
      </p>
      <NewestDocuments />
      <ColourBy />
      {!manifest.preview && <Topics />}
    </nav>
  );
}

/** Button that highlights the documents added last. */
function NewestDocuments() {
  const generations = state.manifest.value!.generations;
  const last = generations.length - 1;
  // Placed documents are not part of the map: the page colours by origin instead.
  if (!last || !state.index.value || generations[last].placed) return null;
  const isMarked = state.colour.value === ADDED && state.categories.value.size === 1 && state.categories.value.has(last);
  const { added } = generations[last];
  return (
    <button
      class="newest"
      aria-pressed={isMarked}
      title={added ? `Added ${added}` : generationName(generations[last], last)}
      onClick={() => {
        chooseCategories(addedEntry()!, isMarked ? [] : [last]);
        state.colour.value = isMarked ? "cluster" : ADDED;
      }}
    >
      <span class="dot" style={{ backgroundColor: css(categoryCodeColour(addedEntry()!, last, state.theme.value)) }} aria-hidden="true" />
      {isMarked ? "Back to all documents" : `Show the ${plural(documentsOf(generations[last]), "document")} added last`}
    </button>
  );
}

function ColourBy() {
  const columns = (state.index.value?.colours ?? []).filter((entry) => entry.id !== ADDED);
  const layers = state.labels.value?.layers ?? 1;
  return (
    <section class="colour-by">
      <label class="field">
        <span>Colour by</span>
        <select
          value={state.colour.value}
          onChange={(event) => {
            state.scaleChosen.value = false;
            state.colour.value = event.currentTarget.value;
          }}
        >
          {!state.manifest.value!.preview && (
            <optgroup label="Clusters">
              <option value="cluster">Cluster</option>
              {Array.from({ length: Math.max(0, layers - 1) }, (_, i) => (
                <option key={i} value={`layer:${i + 1}`}>
                  {`Coarser clusters${layers > 2 ? `, layer ${i + 1}` : ""}`}
                </option>
              ))}
              <option value="nearest_cluster">Nearest cluster, noise too</option>
            </optgroup>
          )}
          <optgroup label="Map">
            <option value="density">Density</option>
            {state.hasHeights.value && <option value={BANDS}>Density in space, in quarters</option>}
            {addedEntry() && <option value={ADDED}>When added</option>}
            {state.tagged.value.length > 0 && <option value={state.TAGS}>Tags</option>}
          </optgroup>
          {columns.length > 0 && (
            <optgroup label="Columns">
              {columns.map((entry) => (
                <option key={entry.id} value={entry.id}>
                  {entry.name}
                </option>
              ))}
            </optgroup>
          )}
        </select>
      </label>
      {(state.column.value || state.colour.value === BANDS || state.colour.value === "density") && <Legend />}
      {state.sizeColumn.value && <SizeLegend />}
    </section>
  );
}

const hasWordIndex = (): boolean => state.index.value === null || lastSection(state.index.value.generations, SEARCH) !== null;

const Legend = lazy("Legend", async () => (await import("../legend")).Legend, "muted small");
const SizeLegend = lazy("Sizes", async () => (await import("../size-by")).SizeLegend, "muted small");
const Tree = lazy("Topics", async () => (await import("../topics/tree")).Topics, "muted small");

function Topics() {
  const query = state.query.value;
  const words = parseSimilarQuery(query) === null ? query.trim() : "";
  const isolated = state.isolated.value;
  const chosen = isolated.size > 0;
  const filtered = state.filters.value.size > 0;
  return (
    <section class="topics">
      <div class="field">
        <input
          id="find"
          type="search"
          placeholder="Find documents and clusters"
          title="Words of documents, labels and keyphrases; a document's own id; # and a row id, with Enter; like # and a row id"
          aria-label="Find documents and clusters"
          value={query}
          onInput={(event) => (state.query.value = event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "ArrowDown") {
              event.preventDefault();
              document.querySelector<HTMLElement>(".tree [tabindex='0']")?.focus();
            }
            if (event.key !== "Enter") return;
            const row = /^#(-?\d+)$/.exec(event.currentTarget.value.trim());
            if (row) commands.pinRow(Number(row[1]));
            else if (innerWidth <= NARROW_WIDTH) setOpen(ID, false);
          }}
        />
      </div>
      {state.index.value && lastSection(state.index.value.generations, MEANING) ? (
        <div class="choice" role="group" aria-label="Find documents by">
          <button aria-pressed={state.findBy.value !== BY_MEANING} onClick={() => (state.findBy.value = "")}>
            Words
          </button>
          <button aria-pressed={state.findBy.value === BY_MEANING} onClick={() => (state.findBy.value = BY_MEANING)}>
            Meaning
          </button>
        </div>
      ) : (
        words && <p class="muted small">By meaning, from the command line: latentscale search WORKSPACE "{shortened(words, 40)}"</p>
      )}
      {query && !hasWordIndex() && <p class="muted small">The words of this map's documents are not indexed: publish it again to find them.</p>}
      <Tree />
      {/* Below the rows, so that they do not move under the pointer. */}
      <p class="base" role="status">
        {chosen ? (
          <>
            <span class="chosen">
              {count(state.isolatedDocuments.value)} of {count(state.documents.value)} documents
            </span>
            <button class="link" onClick={() => void selectClusters(isolated)}>
              Select
            </button>
            <button class="link" onClick={() => (state.isolated.value = new Set())}>
              Show all
            </button>
          </>
        ) : (
          filtered && (
            <>
              <span>
                {state.clusterCounts.value
                  ? `Passing the filters, of ${state.clusterCounts.value.whole ? "all" : `${count(state.clusterCounts.value.documents)} that were read`}`
                  : "Counting…"}
              </span>
              <button class="link" onClick={() => (state.filters.value = new Map())}>
                Show all
              </button>
            </>
          )
        )}
      </p>
    </section>
  );
}
