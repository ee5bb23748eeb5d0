/** The tags of this page: kept in the browser where it lets them be, and found again on the map. */

import { signal } from "@preact/signals";
import { combined, rangesOf, type Selection } from "./engine/selection";
import { keepTags, readTags, type Tag } from "./engine/tags";
import * as state from "./state";

/** Documents of a tag at most: more would not fit into what a browser keeps. */
export const MOST_TAGGED = 200_000;

const folder = () => location.pathname.replace(/[^/]*$/, "");
const KEY = `latentscale tags ${folder()}`;

export const tags = signal<readonly Tag[]>([]);
/** Whether the browser keeps them: otherwise they go with the page. */
export const kept = signal(true);

export const mapName = (): string => state.manifest.value!.generations[0].url;

function storage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

let begun: Promise<void> | null = null;

/** Read what the browser has kept, once. */
export function readOnce(): Promise<void> {
  begun ??= (async () => {
    const own = storage();
    tags.value = own ? readTags(own, KEY) : [];
    kept.value = own !== null;
    await find();
  })();
  return begun;
}

/** Where the documents of the tags lie; those that are not on the map are passed over. */
async function find(): Promise<void> {
  const known = new Map(state.tagged.value.map((one) => [one.tag, one]));
  state.tagged.value = await Promise.all(
    tags.value.map(async (tag) => known.get(tag) ?? { tag, name: tag.name, documents: await located(tag.rowIds) }),
  );
}

/** Where documents lie, by their row ids, ascending. */
export async function located(rowIds: readonly number[]): Promise<Selection> {
  let selection: Selection = new Map();
  for (const generation of state.generations.value) {
    const positions = rangesOf(await generation.positionsOf(rowIds));
    const { positions: gone } = await generation.removed();
    const own = combined(new Map([[generation.number, positions]]), "subtract", new Map([[generation.number, rangesOf(gone)]]));
    selection = combined(selection, "add", own);
  }
  return selection;
}

async function change(next: readonly Tag[]): Promise<void> {
  tags.value = next;
  const own = storage();
  kept.value = own !== null && keepTags(own, KEY, next);
  if (!next.length && state.colour.value === state.TAGS) state.colour.value = "cluster";
  await find();
}

/** Give documents a name; those that have it already stay with it. */
export async function addTag(name: string, rowIds: readonly number[]): Promise<void> {
  const old = tags.value.find((tag) => tag.name === name);
  const all = [...new Set([...(old?.rowIds ?? []), ...rowIds])].sort((a, b) => a - b);
  const made: Tag = { name, rowIds: all, map: mapName() };
  await change(old ? tags.value.map((tag) => (tag === old ? made : tag)) : [...tags.value, made]);
}

export const removeTag = (name: string): Promise<void> => change(tags.value.filter((tag) => tag.name !== name));
