/** A selection as a query to DuckDB, run in the folder of the workspace. */

/** Row ids that a query names itself; more come from the file that the page saves. */
const MAX_INLINE_IDS = 1_000;

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** `folder` is that of the only generation's page, as the manifest has it; null for a map that grew. */
export function duckdbQuery(rowIds: readonly number[], folder: string | null, file: string): string {
  const map = folder === null ? null : /^(?:\.\.\/)*(.*\/)viewer\/$/.exec(folder)?.[1];
  const ids = rowIds.length > MAX_INLINE_IDS ? `SELECT row_id FROM ${quoted(file)}` : rowIds.join(", ");
  const query = `SELECT * FROM ${quoted(map ? `${map}points/**/*.parquet` : "points.parquet")} WHERE row_id IN (${ids});`;
  // Of a map that grew, single files have documents that it replaced.
  return map ? query : `-- latentscale export WORKSPACE points.parquet\n${query}`;
}
