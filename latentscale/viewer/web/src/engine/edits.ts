/** Edits of clusters that a reader makes: as the browser keeps them, as they are seen, and as a file that `latentscale labels import` reads. */

import { ViewerError, type ClusterDetail, type ClusterEntry, type LabelsFile } from "./format";
import { labelZooms } from "./label-zooms";
import { refOf } from "./topic-tree";

/** What was changed of one cluster, with what the file says of it: an entry of that file. */
export interface ClusterEdit {
  layer: number;
  cluster: number;
  /** Its name as it was found. */
  label: string;
  size: number;
  /** Row ids of some of its documents, by which it is found again. */
  members: readonly number[];
  /** Null: the name that was found, where the map has another one by hand. */
  rename?: string | null;
  describe?: string;
  hide?: boolean;
}

export const CHANGES = ["rename", "describe", "hide"] as const;
/** Characters at most, as `labelers/edits.py` has it. */
const MOST = { rename: 200, describe: 2000 };
/** Of the documents by which a cluster is known on both maps, those that are the same ones. */
const SAME = 0.5;

export const placeOf = ({ layer, cluster }: Pick<ClusterEdit, "layer" | "cluster">): string => `${layer}.${cluster}`;

/** One line without spaces around it; what is pasted may have others than the common one between its words. */
export const oneLine = (text: string): string => text.replace(/[\p{Z}\t\r\n]+/gu, " ").trim();

/** What is wrong with a name or a description of one line, or null. */
export function faultOf(kind: keyof typeof MOST, text: string): string | null {
  if ([...text].length > MOST[kind]) return `At most ${MOST[kind].toLocaleString("en")} characters.`;
  return /\p{C}/u.test(text) ? "It has a sign that cannot be seen: type it anew." : null;
}

/** An edit as plain values, or null for what is none. */
function checked(value: unknown): ClusterEdit | null {
  const given = value as ClusterEdit;
  const isText = (kind: keyof typeof MOST): boolean => {
    const text = given[kind] as unknown;
    return text === undefined || (typeof text === "string" && text.trim() !== "" && faultOf(kind, text) === null) || (kind === "rename" && text === null);
  };
  const numbers = (list: unknown): boolean => Array.isArray(list) && list.length > 0 && list.every(Number.isSafeInteger);
  const fits =
    given !== null &&
    typeof given === "object" &&
    [given.layer, given.cluster, given.size].every(Number.isSafeInteger) &&
    typeof given.label === "string" &&
    numbers(given.members) &&
    isText("rename") &&
    isText("describe") &&
    (given.hide === undefined || typeof given.hide === "boolean");
  if (!fits || !changes(given).length) return null;
  const { layer, cluster, label, size, members } = given;
  return { layer, cluster, label, size, members, ...Object.fromEntries(changes(given).map((name) => [name, given[name]])) };
}

export const changes = (edit: ClusterEdit): (typeof CHANGES)[number][] => CHANGES.filter((name) => edit[name] !== undefined);

/** What `localStorage` offers; in some windows it throws at every call. */
type Kept = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export interface KeptEdits {
  /** The folder of the page on which they were made. */
  folder: string;
  edits: ClusterEdit[];
}

/** What is kept under a key; anything damaged is left out. */
export function readEdits(kept: Kept, key: string): KeptEdits | null {
  try {
    const found = JSON.parse(kept.getItem(key) ?? "null") as { folder?: unknown; edits?: unknown[] } | null;
    return found && { folder: String(found.folder), edits: (found.edits ?? []).map(checked).filter((edit) => edit !== null) };
  } catch {
    return null;
  }
}

/** Keep edits; false where the browser does not, for want of room or of leave. */
export function keepEdits(kept: Kept, key: string, { folder, edits }: KeptEdits): boolean {
  try {
    if (edits.length) kept.setItem(key, JSON.stringify({ folder, edits }));
    else kept.removeItem(key);
    return true;
  } catch {
    return false;
  }
}

/** The clusters as they are edited, with the zooms at which their labels have room then. */
export function editedLabels(file: LabelsFile, edits: readonly ClusterEdit[], details: readonly ClusterDetail[] | null, side: number): LabelsFile {
  if (!edits.length) return file;
  const by = new Map(edits.map((edit) => [placeOf(edit), edit]));
  const clusters = file.clusters.map((cluster): ClusterEntry => {
    const edit = by.get(refOf(cluster));
    if (!edit) return cluster;
    const label = edit.rename === undefined ? cluster.label : (edit.rename ?? cluster.found ?? cluster.label);
    return { ...cluster, label, hidden: edit.hide ?? cluster.hidden, edited: true };
  });
  const moved = edits.some(({ rename, hide }) => rename !== undefined || hide !== undefined);
  if (!moved) return { ...file, clusters };
  const zooms = labelZooms({ ...file, clusters }, details, side);
  return { ...file, clusters: clusters.map((cluster, i) => ({ ...cluster, zoom: zooms[i] })) };
}

export function editedDetails(details: ClusterDetail[], edits: readonly ClusterEdit[], clusters: readonly ClusterEntry[]): ClusterDetail[] {
  const by = new Map(edits.map((edit) => [placeOf(edit), edit.describe]));
  return details.map((detail, i) => {
    const description = clusters[i] && by.get(refOf(clusters[i]));
    return description === undefined ? detail : { ...detail, description };
  });
}

/** The edits with one put in; without what says nothing but how the cluster is already. */
export function withEdit(edits: readonly ClusterEdit[], edit: ClusterEdit, cluster: ClusterEntry, detail: ClusterDetail | null): ClusterEdit[] {
  const made = { ...edit };
  if (made.rename !== undefined && made.rename === cluster.found) made.rename = null;
  if ((made.rename === null ? (cluster.found ?? cluster.label) : made.rename) === cluster.label) delete made.rename;
  if (made.describe === (detail?.description ?? "")) delete made.describe;
  if (made.hide === (cluster.hidden ?? false)) delete made.hide;
  const at = edits.findIndex((other) => placeOf(other) === placeOf(edit));
  const rest = edits.filter((_, i) => i !== at);
  if (!changes(made).length) return rest;
  return at < 0 ? [...rest, made] : edits.map((other, i) => (i === at ? made : other));
}

/** Which cluster of this map each edit of another one is of, by the documents that both list; without those of none. */
export function broughtOver(edits: readonly ClusterEdit[], clusters: readonly ClusterEntry[], details: readonly ClusterDetail[]): ClusterEdit[] {
  const found: ClusterEdit[] = [];
  for (const edit of edits) {
    const known = new Set(edit.members);
    const at = clusters.findIndex(({ layer }, i) => {
      const own = details[i]?.exemplars ?? [];
      const shared = own.filter((row) => known.has(row)).length;
      return layer === edit.layer && shared > 0 && shared >= SAME * Math.max(own.length, known.size);
    });
    if (at < 0) continue;
    const { id, size, label, found: before } = clusters[at];
    found.push({ ...edit, cluster: id, label: before ?? label, size, members: details[at].exemplars });
  }
  return found;
}

/** JSON without the signs that JSON allows and YAML does not. */
const plain = (json: string): string => json.replace(/[\x7f-\x9f\u2028\u2029\ufffe\uffff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** A file of edits: YAML, with a line of JSON for each cluster, which adds to the edits that the map has. */
export function editFile(map: string, edits: readonly ClusterEdit[], command: string): string {
  const head = ["# Edits of clusters, made on the page of a map. They go to the edits that the map has already.", `# Apply them: ${command}`];
  const entries = edits.map(({ label, layer, cluster, size, members, ...rest }) => `- ${plain(JSON.stringify({ label, layer, cluster, size, members, ...rest }))}`);
  return `${[...head, "edits: 1", `map: ${JSON.stringify(map)}`, "adds: true", "clusters:", ...entries].join("\n")}\n`;
}

/**
 * The edits of a file that a page saved, and the map that they were made on.
 *
 * @throws ViewerError with the line that is wrong, and where it is another kind of file.
 */
export function readEditFile(text: string, fileName: string): { map: string; edits: ClusterEdit[] } {
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  if (!lines.includes("edits: 1") || !lines.includes("adds: true"))
    throw new ViewerError(`${fileName} is no file of edits that a page saved. What latentscale labels export writes is for latentscale labels import.`);
  const parsed = (json: string, i: number): unknown => {
    try {
      return JSON.parse(json);
    } catch {
      throw new ViewerError(`${fileName}, line ${i + 1}: this is not as the page saved it; latentscale labels import reads any YAML.`);
    }
  };
  let map = "";
  const edits: ClusterEdit[] = [];
  lines.forEach((line, i) => {
    if (line.startsWith("map: ")) map = String(parsed(line.slice(5), i));
    else if (line.startsWith("- ")) {
      const edit = checked(parsed(line.slice(2), i));
      if (!edit) throw new ViewerError(`${fileName}, line ${i + 1}: this is no edit of a name, a description, or whether a label is hidden.`);
      edits.push(edit);
    } else if (line.trim() && !/^(#|edits: 1$|adds: true$|clusters:$)/.test(line)) parsed(line, i);
  });
  return { map, edits };
}
