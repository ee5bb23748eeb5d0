import { parquetMetadata, parquetReadObjects, type SchemaElement } from "hyparquet";
import { describe, expect, it } from "vitest";
import type { Document } from "../src/engine/generation";
import { writeParquet } from "../src/engine/write-parquet";
import { valueText } from "../src/ui/words";

const optional = { repetition_type: "OPTIONAL" } as const;
const text = (name: string): SchemaElement => ({ name, type: "BYTE_ARRAY", converted_type: "UTF8", logical_type: { type: "STRING" }, ...optional });
const types: SchemaElement[] = [
  text("title"),
  { name: "n", type: "INT64", ...optional },
  { name: "small", type: "INT32", converted_type: "UINT_8", logical_type: { type: "INTEGER", bitWidth: 8, isSigned: false }, ...optional },
  { name: "score", type: "DOUBLE", ...optional },
  { name: "half", type: "FLOAT", ...optional },
  { name: "yes", type: "BOOLEAN", ...optional },
  { name: "day", type: "INT32", converted_type: "DATE", logical_type: { type: "DATE" }, ...optional },
  { name: "at", type: "INT64", logical_type: { type: "TIMESTAMP", isAdjustedToUTC: false, unit: "MILLIS" }, ...optional },
  text("__proto__"),
];
const columns = types.map(({ name }) => name);
const rows: unknown[][] = [
  ["<b>", 9_007_199_254_740_993n, 255, 0.1, Math.fround(0.1), true, new Date("2024-02-29"), new Date("1969-12-31T23:59:59.999Z"), "a\u0000b"],
  [null, null, null, null, null, null, null, null, null],
  ["日本", -1n, 0, -1e300, 2.5, false, new Date("1900-01-01"), new Date("2100-01-01T12:00:00.001Z"), ""],
];
const documents = (of: unknown[][], names = columns): Document[] => of.map((values, i) => ({ rowId: 7 + i, values: values.map((value, c) => [names[c], value]) }));
const read = async (file: ArrayBuffer) => (await parquetReadObjects({ file })).map((row) => Object.entries(row));

describe("a selection as parquet", () => {
  it("has the values and the types of the map's own files", async () => {
    const file = writeParquet(documents(rows), [types], columns, valueText);
    const written = parquetMetadata(file).schema.slice(1);
    expect(written.map(({ name }) => name)).toEqual(["row_id", ...columns]);
    expect(written.slice(1).map(({ type, converted_type, logical_type }) => [type, converted_type, logical_type])).toEqual(
      types.map(({ type, converted_type, logical_type }) => [type, converted_type, logical_type]),
    );
    const found = await read(file);
    expect(found.map((row) => row.map(([, value]) => value).slice(0, columns.length))).toEqual(rows.map((row, i) => [BigInt(7 + i), ...row.slice(0, -1)]));
  });

  it("takes the type that holds the values of all generations", async () => {
    const of = (name: string, type: SchemaElement["type"]): SchemaElement => ({ name, type, ...optional });
    const names = ["whole", "number", "mixed", "gone"];
    const first = [of("whole", "INT32"), of("number", "INT64"), of("mixed", "DOUBLE"), text("gone")];
    const second = [of("whole", "INT64"), of("number", "DOUBLE"), text("mixed")];
    const some = [...documents([[1, 2n, 3.5, "x"]], names), ...documents([[2n ** 60n, 0.5, "y"]], names)];
    const file = writeParquet(some, [first, second], names, valueText);
    expect(parquetMetadata(file).schema.slice(2).map(({ type }) => type)).toEqual(["INT64", "DOUBLE", "BYTE_ARRAY", "BYTE_ARRAY"]);
    expect((await read(file)).map((row) => row.slice(1).map(([, value]) => value))).toEqual([
      [1n, 2, "3.5", "x"],
      [2n ** 60n, 0.5, "y", null],
    ]);
  });
});
