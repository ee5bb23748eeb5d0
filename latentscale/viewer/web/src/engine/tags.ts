/** Tags: named sets of row ids, as stored in the browser and as CSV files that jobs and this page read. */

import { ViewerError } from "./format";

export interface Tag {
  name: string;
  /** Ascending and distinct. */
  rowIds: readonly number[];
  /** The map on which it was created: row ids belong to a workspace, and the address may serve another one later. */
  map: string;
}

/** The part of `localStorage` used here; in some privacy modes every call throws. */
type TagStorage = Pick<Storage, "getItem" | "setItem">;

/** Serialise row ids; consecutive ones as ranges such as `5-9`. */
export function writeIds(rowIds: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const id of rowIds) {
    const last = runs[runs.length - 1];
    if (last?.[1] === id - 1) last[1] = id;
    else runs.push([id, id]);
  }
  return runs.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}

/** Parse row ids as written by `writeIds`; invalid parts are skipped. */
export function readIds(text: string): number[] {
  const found = text.split(",").filter(Boolean).flatMap((run) => {
    const [first, last = first] = run.split("-").map(Number);
    return last >= first ? Array.from({ length: last - first + 1 }, (_, i) => first + i) : [];
  });
  return sortedUnique(found.filter(Number.isSafeInteger));
}

const sortedUnique = (ids: Iterable<number>): number[] => [...new Set(ids)].sort((a, b) => a - b);

/** The tags stored under a key; damaged entries are skipped. */
export function readTags(kept: TagStorage, key: string): Tag[] {
  try {
    const found = JSON.parse(kept.getItem(key) ?? "[]") as { name: string; ids: string; map: string }[];
    return found.filter(({ name, ids }) => typeof name === "string" && typeof ids === "string").map(({ name, ids, map }) => ({ name, rowIds: readIds(ids), map: String(map) }));
  } catch {
    return [];
  }
}

/** Store tags; false if the browser refuses, for lack of quota or permission. */
export function storeTags(kept: TagStorage, key: string, tags: readonly Tag[]): boolean {
  try {
    kept.setItem(key, JSON.stringify(tags.map(({ name, rowIds, map }) => ({ name, ids: writeIds(rowIds), map }))));
    return true;
  } catch {
    return false;
  }
}

/** A CSV field, quoted if necessary. */
export const csvValue = (text: string): string => (/[",\r\n]/.test(text) || text !== text.trim() ? `"${text.replaceAll('"', '""')}"` : text);

/** Parse CSV (RFC 4180). */
export function readCsv(text: string): string[][] {
  const records: string[][] = [];
  let record: string[] = [];
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/gy;
  const plain = text.replace(/^\uFEFF/, "");
  while (field.lastIndex < plain.length) {
    const found = field.exec(plain);
    if (!found) throw new ViewerError(`Line ${records.length + 1} is not valid CSV: a quote is not closed, or is inside a value.`);
    record.push(found[1] !== undefined ? found[1].replaceAll('""', '"') : found[2]);
    if (found[3] === ",") continue;
    records.push(record);
    record = [];
  }
  // The text ended with a comma: the last field is empty.
  if (record.length) records.push([...record, ""]);
  return records.filter((one) => one.length > 1 || one[0] !== "");
}

/**
 * Parse a tag file: CSV with a column `row_id` and, for several tags, `tag`. Row ids by tag; the file's name is the
 * default tag.
 *
 * @throws ViewerError if it contains no row ids, or invalid ones.
 */
export function readTagFile(text: string, fileName: string): Map<string, number[]> {
  const [header = [], ...records] = readCsv(text);
  const [idColumn, tagColumn] = [header.indexOf("row_id"), header.indexOf("tag")];
  if (idColumn < 0) throw new ViewerError(`${fileName} has no column row_id; it has ${header.slice(0, 20).join(", ") || "nothing"}. Files that this page saved have one.`);
  const found = new Map<string, number[]>();
  const defaultTag = fileName.replace(/\.[a-z]+$/i, "");
  records.forEach((record, i) => {
    const id = record[idColumn]?.trim() ?? "";
    if (!/^-?\d+$/.test(id)) throw new ViewerError(`${fileName}, line ${i + 2}: ${id.slice(0, 40) || "an empty value"} is no row id.`);
    const name = (tagColumn < 0 ? "" : record[tagColumn]?.trim()) || defaultTag;
    const list = found.get(name);
    if (list) list.push(Number(id));
    else found.set(name, [Number(id)]);
  });
  if (!found.size) throw new ViewerError(`${fileName} holds no row id.`);
  return new Map([...found].map(([name, ids]) => [name, sortedUnique(ids)]));
}
