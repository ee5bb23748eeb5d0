/** Exports: row ids, columns, a query, a picture, a link. */

import { useState } from "preact/hooks";
import type { Document } from "../../engine/generation";
import { forEachConcurrent } from "../../engine/scan";
import { firstRows, sizeOf, type Selection } from "../../engine/selection";
import { duckdbQuery } from "../../engine/sql";
import { csvValue } from "../../engine/tags";
import * as state from "../../state";
import { rowIdsOf, save, saveRowIds } from "../save";
import { count, valueText } from "../words";
import { drawPicture } from "./picture";

/** Maximum documents whose columns are exported; for more, the query reads the map's own files. */
const MAX_READ = 20_000;

export function Exports({ selection }: { selection: Selection | null }) {
  const [status, setStatus] = useState("");
  const size = selection ? sizeOf(selection) : 0;
  const reporting = (what: string, work: () => Promise<string>) => async () => {
    setStatus("…");
    try {
      setStatus(await work());
    } catch (error) {
      setStatus("");
      state.notice.value = `${what}: ${(error as Error).message}`;
    }
  };
  const copied = async (text: string, name: string) => {
    // The clipboard API requires https or localhost.
    if (!navigator.clipboard) throw new Error(`this browser lets only pages over https copy. ${text.slice(0, 2000)}`);
    await navigator.clipboard.writeText(text);
    return `${name} copied`;
  };
  return (
    <>
      <h2 class="part">Save and copy</h2>
      <p class="links">
        {selection && size > 0 && (
          <>
            <button class="link" onClick={() => void saveRowIds(selection)}>
              Row ids (CSV)
            </button>
            <button
              class="link"
              disabled={size > MAX_READ}
              title={size > MAX_READ ? `Of ${count(MAX_READ)} documents at most: take the query` : ""}
              onClick={reporting("Columns", async () => {
                save(await columnsCsv(selection), "columns.csv");
                return "Columns saved";
              })}
            >
              Columns (CSV)
            </button>
            <button
              class="link"
              disabled={size > MAX_READ}
              title={size > MAX_READ ? `Of ${count(MAX_READ)} documents at most: take the query` : "With the types that the columns have"}
              onClick={reporting("Columns", async () => {
                save(await columnsParquet(selection), "documents.parquet", "application/vnd.apache.parquet");
                return "Columns saved";
              })}
            >
              Columns (Parquet)
            </button>
            <button
              class="link"
              title="Run this in the folder of the workspace"
              onClick={reporting("Query", async () => {
                const [first, ...more] = state.manifest.value!.generations;
                return copied(duckdbQuery(await rowIdsOf(selection), more.length ? null : first.url, "documents.csv"), "Query");
              })}
            >
              Copy DuckDB query
            </button>
          </>
        )}
        <button
          class="link"
          onClick={reporting("Picture", async () => {
            save(await drawPicture(), "map.png", "image/png");
            return "Picture saved";
          })}
        >
          Picture (PNG)
        </button>
        <button class="link" onClick={reporting("Link", () => copied(location.href, "Link"))}>
          Copy link
        </button>
      </p>
      <p class="muted small" role="status">
        {status}
      </p>
    </>
  );
}

/** The selected documents with all published columns, ordered by row id. */
async function documentsOf(selection: Selection): Promise<Document[]> {
  const rows = firstRows(selection, state.generations.value, MAX_READ);
  const documents: Document[] = new Array(rows.length);
  await forEachConcurrent(rows, async ({ generation, position }, k) => void (documents[k] = await generation.document(position)));
  return documents.sort((a, b) => a.rowId - b.rowId);
}

async function columnsCsv(selection: Selection): Promise<string> {
  const columns = state.index.value!.columns;
  const lines = (await documentsOf(selection)).map(({ rowId, values }) => {
    const own = new Map(values);
    return [String(rowId), ...columns.map((column) => valueText(own.get(column)))];
  });
  return [["row_id", ...columns], ...lines].map((line) => `${line.map(csvValue).join(",")}\n`).join("");
}

async function columnsParquet(selection: Selection): Promise<ArrayBuffer> {
  const generations = state.generations.value.filter(({ number }) => selection.has(number));
  const [{ writeParquet }, documents, schemas] = await Promise.all([
    import("../../engine/write-parquet"),
    documentsOf(selection),
    Promise.all(generations.map((generation) => generation.columnTypes())),
  ]);
  return writeParquet(documents, schemas, state.index.value!.columns, valueText);
}
