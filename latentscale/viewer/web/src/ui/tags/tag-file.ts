/** Tags as CSV for jobs: row ids, the documents' own ids if all have one, and the tag. */

import { firstRows, sizeOf } from "../../engine/selection";
import { forEachConcurrent } from "../../engine/scan";
import { searchEntryOf } from "../../engine/search-entry";
import { csvValue } from "../../engine/tags";
import * as state from "../../state";
import { valueText } from "../words";

/** Maximum documents that are read for their own ids; more are identified by row id only. */
const MAX_READ = 5_000;

/** The CSV of tags, sorted by tag and row id. */
export async function tagFile(tags: readonly state.Tagged[]): Promise<string> {
  const idColumn = await ownIdColumn(tags);
  const rows: [rowId: number, own: string, tag: string][] = [];
  for (const { name, tag, documents } of tags) {
    if (!idColumn) {
      // Includes row ids that are not on this map.
      rows.push(...tag.rowIds.map((rowId): [number, string, string] => [rowId, "", name]));
      continue;
    }
    await forEachConcurrent(firstRows(documents, state.generations.value, Infinity), async ({ generation, position }) => {
      const document = await generation.document(position);
      rows.push([document.rowId, valueText(document.values.find(([column]) => column === idColumn)?.[1]), name]);
    });
  }
  // Jobs that match by own id would skip documents without one.
  const hasOwnIds = idColumn !== null && rows.every(([, own]) => own.trim() !== "");
  rows.sort((a, b) => (a[2] < b[2] ? -1 : a[2] > b[2] ? 1 : a[0] - b[0]));
  const header = hasOwnIds ? ["row_id", idColumn, "tag"] : ["row_id", "tag"];
  const lines = rows.map(([rowId, own, tag]) => (hasOwnIds ? [String(rowId), own, tag] : [String(rowId), tag]));
  return [header, ...lines].map((line) => `${line.map(csvValue).join(",")}\n`).join("");
}

/** The column of own ids, if the map names one and reading it is cheap. */
async function ownIdColumn(tags: readonly state.Tagged[]): Promise<string | null> {
  const documents = tags.reduce((sum, one) => sum + sizeOf(one.documents), 0);
  const whole = tags.every(({ tag, documents: found }) => sizeOf(found) === tag.rowIds.length);
  if (documents > MAX_READ || !whole) return null;
  const entry = await searchEntryOf(state.generations.value[state.generations.value.length - 1]);
  const column = entry?.fields.id;
  return column && column !== "row_id" && column !== "tag" && state.index.value!.columns.includes(column) ? column : null;
}
