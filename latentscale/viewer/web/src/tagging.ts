/** The reader's tags: stored in the browser where possible, and located on the map. */

import { signal } from "@preact/signals";
import { combine, rangesOf, type Selection } from "./engine/selection";
import { storeTags, readTags, type Tag } from "./engine/tags";
import * as state from "./state";

/** Maximum number of documents per tag: more would exceed the browser's storage quota. */
export const MAX_TAGGED = 200_000;

const folder = () => location.pathname.replace(/[^/]*$/, "");
const KEY = `latentscale tags ${folder()}`;

export const tags = signal<readonly Tag[]>([]);
/** Whether the browser can store tags; if not, they are lost with the page. */
export const isPersisted = signal(true);

/** Identifies the map that a tag was created on. */
export const mapName = (): string => state.manifest.value!.generations[0].url;

function storage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

let loading: Promise<void> | null = null;

/** Load the stored tags, once. */
export function loadTags(): Promise<void> {
  loading ??= (async () => {
    const own = storage();
    tags.value = own ? readTags(own, KEY) : [];
    isPersisted.value = own !== null;
    await locateTags();
  })();
  return loading;
}

/** Locate the documents of the tags; those not on the map are skipped. */
async function locateTags(): Promise<void> {
  const known = new Map(state.tagged.value.map((one) => [one.tag, one]));
  state.tagged.value = await Promise.all(
    tags.value.map(async (tag) => known.get(tag) ?? { tag, name: tag.name, documents: await locateRows(tag.rowIds) }),
  );
}

/** Positions of documents by their row ids, which ascend. Removed documents are left out. */
export async function locateRows(rowIds: readonly number[]): Promise<Selection> {
  let selection: Selection = new Map();
  for (const generation of state.generations.value) {
    const positions = rangesOf(await generation.positionsOf(rowIds));
    const { positions: removed } = await generation.removed();
    const own = combine(new Map([[generation.number, positions]]), "subtract", new Map([[generation.number, rangesOf(removed)]]));
    selection = combine(selection, "add", own);
  }
  return selection;
}

async function updateTags(next: readonly Tag[]): Promise<void> {
  tags.value = next;
  const own = storage();
  isPersisted.value = own !== null && storeTags(own, KEY, next);
  if (!next.length && state.colour.value === state.TAGS) state.colour.value = "cluster";
  await locateTags();
}

/** Add documents to the tag of a name, creating it if needed. */
export async function addTag(name: string, rowIds: readonly number[]): Promise<void> {
  const old = tags.value.find((tag) => tag.name === name);
  const all = [...new Set([...(old?.rowIds ?? []), ...rowIds])].sort((a, b) => a - b);
  const made: Tag = { name, rowIds: all, map: mapName() };
  await updateTags(old ? tags.value.map((tag) => (tag === old ? made : tag)) : [...tags.value, made]);
}

export const removeTag = (name: string): Promise<void> => updateTags(tags.value.filter((tag) => tag.name !== name));
