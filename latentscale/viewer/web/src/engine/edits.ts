/**
 * Cluster edits: stored in the browser, applied to the labels, and exported as a file for `latentscale labels import`.
 */

import { ViewerError, type ClusterDetail, type ClusterEntry, type LabelsFile } from "./format";
import { labelZooms } from "./label-zooms";
import { refOf } from "./topic-tree";

/** The edits of one cluster and what identifies it: an entry of the exported file. */
export interface ClusterEdit {
  layer: number;
  cluster: number;
  /** Its name as generated. */
  label: string;
  size: number;
  /** Row ids of some of its documents, by which it is recognised on another map. */
  members: readonly number[];
  /** Null restores the generated name where the published map has a curated one. */
  rename?: string | null;
  describe?: string;
  hide?: boolean;
}

export const CHANGES = ["rename", "describe", "hide"] as const;
/** Maximum number of characters, as in `labelers/edits.py`. */
const MAX_LENGTH = { rename: 200, describe: 2000 };
/** Minimum share of common documents for two clusters to count as the same. */
const MIN_OVERLAP = 0.5;

/** The edited cluster as `layer.id`. */
export const editRef = ({ layer, cluster }: Pick<ClusterEdit, "layer" | "cluster">): string => `${layer}.${cluster}`;

/** Collapse all whitespace to single spaces, and trim: pasted text may contain other space characters. */
export const oneLine = (text: string): string => text.replace(/[\p{Z}\t\r\n]+/gu, " ").trim();

/** Why a name or a one-line description is invalid, or null. */
export function textError(kind: keyof typeof MAX_LENGTH, text: string): string | null {
  if ([...text].length > MAX_LENGTH[kind]) return `At most ${MAX_LENGTH[kind].toLocaleString("en")} characters.`;
  return /\p{C}/u.test(text) ? "It contains an invisible character: type it again." : null;
}

/** Validate an untrusted value as an edit; null if it is invalid or changes nothing. */
function parseEdit(value: unknown): ClusterEdit | null {
  const edit = value as ClusterEdit;
  const isValidText = (kind: keyof typeof MAX_LENGTH): boolean => {
    const text = edit[kind] as unknown;
    return text === undefined || (typeof text === "string" && text.trim() !== "" && textError(kind, text) === null) || (kind === "rename" && text === null);
  };
  const isIdList = (list: unknown): boolean => Array.isArray(list) && list.length > 0 && list.every(Number.isSafeInteger);
  const isValid =
    edit !== null &&
    typeof edit === "object" &&
    [edit.layer, edit.cluster, edit.size].every(Number.isSafeInteger) &&
    typeof edit.label === "string" &&
    isIdList(edit.members) &&
    isValidText("rename") &&
    isValidText("describe") &&
    (edit.hide === undefined || typeof edit.hide === "boolean");
  if (!isValid || !changedFields(edit).length) return null;
  const { layer, cluster, label, size, members } = edit;
  return { layer, cluster, label, size, members, ...Object.fromEntries(changedFields(edit).map((name) => [name, edit[name]])) };
}

/** Names of the fields that an edit changes. */
export const changedFields = (edit: ClusterEdit): (typeof CHANGES)[number][] => CHANGES.filter((name) => edit[name] !== undefined);

/** The part of `localStorage` used here; in some privacy modes every call throws. */
type EditStorage = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export interface StoredEdits {
  /** Folder of the page on which the edits were made. */
  folder: string;
  edits: ClusterEdit[];
}

/** The edits stored under a key; invalid entries are skipped. */
export function readEdits(kept: EditStorage, key: string): StoredEdits | null {
  try {
    const found = JSON.parse(kept.getItem(key) ?? "null") as { folder?: unknown; edits?: unknown[] } | null;
    return found && { folder: String(found.folder), edits: (found.edits ?? []).map(parseEdit).filter((edit) => edit !== null) };
  } catch {
    return null;
  }
}

/** Store edits; false if the browser refuses, for lack of quota or permission. */
export function storeEdits(kept: EditStorage, key: string, { folder, edits }: StoredEdits): boolean {
  try {
    if (edits.length) kept.setItem(key, JSON.stringify({ folder, edits }));
    else kept.removeItem(key);
    return true;
  } catch {
    return false;
  }
}

/** The labels with edits applied, and with label zooms recomputed for changed names. */
export function editedLabels(file: LabelsFile, edits: readonly ClusterEdit[], details: readonly ClusterDetail[] | null, side: number): LabelsFile {
  if (!edits.length) return file;
  const by = new Map(edits.map((edit) => [editRef(edit), edit]));
  const clusters = file.clusters.map((cluster): ClusterEntry => {
    const edit = by.get(refOf(cluster));
    if (!edit) return cluster;
    const label = edit.rename === undefined ? cluster.label : (edit.rename ?? cluster.found ?? cluster.label);
    return { ...cluster, label, hidden: edit.hide ?? cluster.hidden, edited: true };
  });
  const relabelled = edits.some(({ rename, hide }) => rename !== undefined || hide !== undefined);
  if (!relabelled) return { ...file, clusters };
  const zooms = labelZooms({ ...file, clusters }, details, side);
  return { ...file, clusters: clusters.map((cluster, i) => ({ ...cluster, zoom: zooms[i] })) };
}

/** The details with edited descriptions; `clusters` is parallel to `details`. */
export function editedDetails(details: ClusterDetail[], edits: readonly ClusterEdit[], clusters: readonly ClusterEntry[]): ClusterDetail[] {
  const by = new Map(edits.map((edit) => [editRef(edit), edit.describe]));
  return details.map((detail, i) => {
    const description = clusters[i] && by.get(refOf(clusters[i]));
    return description === undefined ? detail : { ...detail, description };
  });
}

/** Insert or replace an edit; fields equal to the published values are dropped. */
export function withEdit(edits: readonly ClusterEdit[], edit: ClusterEdit, cluster: ClusterEntry, detail: ClusterDetail | null): ClusterEdit[] {
  const changed = { ...edit };
  if (changed.rename !== undefined && changed.rename === cluster.found) changed.rename = null;
  if ((changed.rename === null ? (cluster.found ?? cluster.label) : changed.rename) === cluster.label) delete changed.rename;
  if (changed.describe === (detail?.description ?? "")) delete changed.describe;
  if (changed.hide === (cluster.hidden ?? false)) delete changed.hide;
  const at = edits.findIndex((other) => editRef(other) === editRef(edit));
  const others = edits.filter((_, i) => i !== at);
  if (!changedFields(changed).length) return others;
  return at < 0 ? [...others, changed] : edits.map((other, i) => (i === at ? changed : other));
}

/** Assign the edits of another map to clusters of this one, by shared exemplars. Edits without a match are dropped. */
export function matchEdits(edits: readonly ClusterEdit[], clusters: readonly ClusterEntry[], details: readonly ClusterDetail[]): ClusterEdit[] {
  const found: ClusterEdit[] = [];
  for (const edit of edits) {
    const known = new Set(edit.members);
    const at = clusters.findIndex(({ layer }, i) => {
      const own = details[i]?.exemplars ?? [];
      const shared = own.filter((row) => known.has(row)).length;
      return layer === edit.layer && shared > 0 && shared >= MIN_OVERLAP * Math.max(own.length, known.size);
    });
    if (at < 0) continue;
    const { id, size, label, found: before } = clusters[at];
    found.push({ ...edit, cluster: id, label: before ?? label, size, members: details[at].exemplars });
  }
  return found;
}

/** Escape characters that are valid in JSON strings but not in YAML. */
const yamlSafe = (json: string): string => json.replace(/[\x7f-\x9f\u2028\u2029\ufffe\uffff]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** The export file: YAML with one line of JSON per cluster, marked as an addition to the map's existing edits. */
export function editFile(map: string, edits: readonly ClusterEdit[], command: string): string {
  const head = ["# Edits of clusters, made on the page of a map. They go to the edits that the map has already.", `# Apply them: ${command}`];
  const entries = edits.map(({ label, layer, cluster, size, members, ...rest }) => `- ${yamlSafe(JSON.stringify({ label, layer, cluster, size, members, ...rest }))}`);
  return `${[...head, "edits: 1", `map: ${JSON.stringify(map)}`, "adds: true", "clusters:", ...entries].join("\n")}\n`;
}

/**
 * Parse a file saved by this page: its edits, and the id of the map they were made on.
 *
 * @throws ViewerError if it is another kind of file, or with the number of an invalid line.
 */
export function readEditFile(text: string, fileName: string): { map: string; edits: ClusterEdit[] } {
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  if (!lines.includes("edits: 1") || !lines.includes("adds: true"))
    throw new ViewerError(`${fileName} is not an edits file that a page saved. What latentscale labels export writes is for latentscale labels import.`);
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
      const edit = parseEdit(parsed(line.slice(2), i));
      if (!edit) throw new ViewerError(`${fileName}, line ${i + 1}: this is no edit of a name, a description, or whether a label is hidden.`);
      edits.push(edit);
    } else if (line.trim() && !/^(#|edits: 1$|adds: true$|clusters:$)/.test(line)) parsed(line, i);
  });
  return { map, edits };
}
