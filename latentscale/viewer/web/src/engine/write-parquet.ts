/** Writes documents as Parquet with the column types of the map's own files. */

import type { SchemaElement } from "hyparquet";
import { parquetWriteBuffer } from "hyparquet-writer";
import type { Document } from "./generation";

const TEXT: SchemaElement = { name: "", type: "BYTE_ARRAY", converted_type: "UTF8", logical_type: { type: "STRING" }, repetition_type: "OPTIONAL" };
const INTEGER: SchemaElement = { name: "", type: "INT64", repetition_type: "OPTIONAL" };
const NUMBER: SchemaElement = { name: "", type: "DOUBLE", repetition_type: "OPTIONAL" };

/**
 * The file's bytes, one row per document.
 *
 * @param schemas The column schemas of each generation of the map.
 * @param columns The names of the columns, in order.
 * @param text Converts a value to text, for columns whose type differs between generations.
 */
export function writeParquet(
  documents: readonly Document[],
  schemas: readonly (readonly SchemaElement[])[],
  columns: readonly string[],
  text: (value: unknown) => string,
): ArrayBuffer {
  const values = documents.map((document) => new Map(document.values));
  const elements = columns.map((name) => commonSchema(name, schemas.flatMap((schema) => schema.filter((element) => element.name === name))));
  const cells = elements.map((element, c) => values.map((row) => cellValue(row.get(columns[c]) ?? null, element, text)));
  const rowId: SchemaElement = { ...INTEGER, name: "row_id", repetition_type: "REQUIRED" };
  return parquetWriteBuffer({
    columnData: [
      { name: "row_id", data: documents.map((document) => BigInt(document.rowId)) },
      ...columns.map((name, c) => ({ name, data: cells[c] })),
    ],
    schema: [{ name: "documents", num_children: columns.length + 1 }, rowId, ...elements],
    createdBy: "LatentScale",
  });
}

const isText = ({ type, converted_type }: SchemaElement): boolean => type === "BYTE_ARRAY" && converted_type === "UTF8";
const isPlain = ({ type, converted_type, logical_type }: SchemaElement): boolean =>
  /^(INT32|INT64|FLOAT|DOUBLE)$/.test(type ?? "") && (/^U?INT_/.test(converted_type ?? "INT_") && (logical_type?.type ?? "INTEGER") === "INTEGER");
const isInteger = (element: SchemaElement): boolean => isPlain(element) && /^INT/.test(element.type!);

/** A type that can represent the values of all generations: an update may have changed it. */
function commonSchema(name: string, found: readonly SchemaElement[]): SchemaElement {
  const kind = (element: SchemaElement) => JSON.stringify([element.type, element.converted_type, element.logical_type]);
  const isUniform = found.length > 0 && found.every((element) => kind(element) === kind(found[0]));
  const common = isUniform ? found[0] : found.length && found.every(isInteger) ? INTEGER : found.length && found.every(isPlain) ? NUMBER : TEXT;
  return { ...common, name, repetition_type: "OPTIONAL" };
}

function cellValue(value: unknown, element: SchemaElement, text: (value: unknown) => string): unknown {
  if (value === null || value === undefined) return null;
  if (isText(element)) return typeof value === "string" ? value : text(value);
  if (element.type === "INT64" && typeof value === "number") return BigInt(value);
  if ((element.type === "DOUBLE" || element.type === "FLOAT") && typeof value === "bigint") return Number(value);
  return value;
}
