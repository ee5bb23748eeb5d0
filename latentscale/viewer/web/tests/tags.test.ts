import { describe, expect, it } from "vitest";
import { duckdbQuery } from "../src/engine/sql";
import { csvValue, storeTags, readCsv, readIds, readTagFile, readTags, writeIds } from "../src/engine/tags";

describe("tags", () => {
  it("are kept as runs of row ids and come back", () => {
    const kept = new Map<string, string>();
    const store = { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => void kept.set(key, value) };
    const tags = [
      { name: 'a "b", c', rowIds: [0, 1, 2, 7, 9, 10], map: "../maps/a/" },
      { name: "<b>", rowIds: [], map: "" },
    ];
    expect(storeTags(store, "k", tags)).toBe(true);
    expect([...kept.values()][0]).toContain("0-2,7,9-10");
    expect(readTags(store, "k")).toEqual(tags);
    kept.set("k", '[{"name": 3}, {"name": "x", "ids": "4,oops,3-1,2", "map": "m"}]');
    expect(readTags(store, "k")).toEqual([{ name: "x", rowIds: [2, 4], map: "m" }]);
    kept.set("k", "[{");
    expect(readTags(store, "k")).toEqual([]);
    expect(readIds("4,oops,3-1,2")).toEqual([2, 4]);
    expect(writeIds([])).toBe("");
  });

  it("that the browser does not keep are told", () => {
    const full = { getItem: () => { throw new Error("denied"); }, setItem: () => { throw new Error("full"); } };
    expect(storeTags(full, "k", [])).toBe(false);
    expect(readTags(full, "k")).toEqual([]);
  });

  it("are read from CSV as it was written, whatever the names hold", () => {
    const values = ["plain", ' sp"ace ', "a,b", "two\nlines", "", '"'];
    const text = [["row_id", "tag"], ...values.map((value, i) => [String(i), value])].map((line) => `${line.map(csvValue).join(",")}\n`).join("");
    expect(readCsv(text).slice(1).map(([, value]) => value)).toEqual(values);
    expect(readCsv("\uFEFFa,b\r\n1,\r\n")).toEqual([["a", "b"], ["1", ""]]);
    expect(() => readCsv('a\n"open')).toThrow("is not valid CSV");
  });

  it("of a file go by its column, or by its name", () => {
    expect(readTagFile("package,row_id,tag\nx,7,good\ny,3,bad\nz,5,good\n", "t.csv")).toEqual(new Map([["good", [5, 7]], ["bad", [3]]]));
    expect(readTagFile("row_id\n3\n1\n3\n", "junk.csv")).toEqual(new Map([["junk", [1, 3]]]));
    expect(() => readTagFile("id\n3\n", "t.csv")).toThrow("t.csv has no column row_id; it has id.");
    expect(() => readTagFile("row_id\n3.5\n", "t.csv")).toThrow("t.csv, line 2: 3.5 is no row id.");
    expect(() => readTagFile("row_id\n", "t.csv")).toThrow("holds no row id");
  });
});

describe("a query to DuckDB", () => {
  it("reads the points of the map, with the row ids in it or in the file that was saved", () => {
    expect(duckdbQuery([3, 5], "../maps/map-1/viewer/", "documents.csv")).toBe("SELECT * FROM 'maps/map-1/points/**/*.parquet' WHERE row_id IN (3, 5);");
    const many = Array.from({ length: 2000 }, (_, i) => i);
    expect(duckdbQuery(many, "../maps/map-1/viewer/", "it's.csv")).toContain("WHERE row_id IN (SELECT row_id FROM 'it''s.csv');");
    expect(duckdbQuery([3], null, "documents.csv")).toMatch(/^-- latentscale export WORKSPACE points.parquet\nSELECT \* FROM 'points.parquet' WHERE/);
  });
});
