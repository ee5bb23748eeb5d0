/** A selection as a DuckDB query, to be run in the workspace folder. */

/** Maximum row ids inlined in a query; more are read from the CSV that the page saves. */
const MAX_INLINE_IDS = 1_000;

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** The query. `folder` is the viewer folder of a map's only generation; null for a map with updates. */
export function duckdbQuery(rowIds: readonly number[], folder: string | null, file: string): string {
  const map = folder === null ? null : /^(?:\.\.\/)*(.*\/)viewer\/$/.exec(folder)?.[1];
  const ids = rowIds.length > MAX_INLINE_IDS ? `SELECT row_id FROM ${quoted(file)}` : rowIds.join(", ");
  const query = `SELECT * FROM ${quoted(map ? `${map}points/**/*.parquet` : "points.parquet")} WHERE row_id IN (${ids});`;
  // On a map with updates, single files contain documents that were since replaced: it is exported first.
  return map ? query : `-- latentscale export WORKSPACE points.parquet\n${query}`;
}
