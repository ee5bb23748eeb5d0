/**
 * Semantic search in the browser: embed the query with the model's token vectors, then search the nearest inverted
 * lists (IVF).
 */

import { ViewerError } from "./format";
import type { Generation } from "./generation";
import { MEANING, type MeaningEntry } from "./meaning";
import { decodeTable } from "./parquet";
import type { Hit } from "./search";
import { section } from "./sections";
import { decodeFile } from "./store";
import { tokenIds } from "./wordpiece";

/** Maximum number of results. */
const MAX_HITS = 100;

/** The documents nearest to a text by cosine similarity, and the number of searchable documents. */
export async function searchMeaning(generations: readonly Generation[], text: string): Promise<{ hits: Hit[]; searchable: number }> {
  const parts: { generation: Generation; entry: MeaningEntry }[] = [];
  for (const generation of generations) {
    const entry = section(await generation.index(), MEANING);
    if (entry) parts.push({ generation, entry });
  }
  const source = parts.find(({ entry }) => entry.tokens);
  if (!source) throw new ViewerError("This map was not published to be searched by meaning.");
  const vector = await queryVector(source.generation, source.entry, text);
  if (!vector) throw new ViewerError("None of these words is known to the model: use other words.");
  const found = (await Promise.all(parts.map(({ generation, entry }) => searchGeneration(generation, entry, vector)))).flat();
  found.sort((a, b) => b.score - a.score || a.generation.number - b.generation.number || a.position - b.position);
  const hits: Hit[] = [];
  for (const hit of found) {
    if (hits.length >= MAX_HITS) break;
    if (!(await hit.generation.isRemoved(hit.position))) hits.push(hit);
  }
  return { hits, searchable: parts.reduce((sum, { generation }) => sum + generation.documents, 0) };
}

/** The normalised mean of a text's token vectors; null if no token is known. */
export async function queryVector(generation: Generation, { dim, tokens }: MeaningEntry, text: string): Promise<Float64Array | null> {
  const vocabulary = await generation.cached("meaning/vocabulary", async () => {
    const found = new Map<string, number>();
    (await tableOf(generation, "vocabulary")).forEach(([token], id) => token && found.set(token as string, id));
    return found;
  });
  const ids = tokenIds(text, vocabulary, tokens!);
  const sum = new Float64Array(dim);
  const rows = await Promise.all(ids.map(async (id) => (await tableOf(generation, `tokens/${Math.floor(id / tokens!.rows)}`))[id % tokens!.rows]));
  for (const [step, code] of rows as [number, Uint8Array][]) asInt8(code).forEach((value, j) => (sum[j] += value * step));
  const norm = Math.hypot(...sum);
  return norm > 0 ? sum.map((value) => value / norm) : null;
}

async function searchGeneration(generation: Generation, entry: MeaningEntry, query: Float64Array): Promise<Hit[]> {
  const centroids = entry.lists > 1 ? await tableOf(generation, "centroids") : null;
  const ranked = Array.from({ length: entry.lists }, (_, list) => ({ list, score: centroids ? entry.centroid_step * dot(centroids[list][0] as Uint8Array, query) : 0 }));
  ranked.sort((a, b) => b.score - a.score || a.list - b.list);
  const hits: Hit[] = [];
  await Promise.all(
    ranked.slice(0, entry.probes).map(async ({ list, score }) => {
      for (const [place, code] of (await tableOf(generation, `lists/${list}`)) as [number, Uint8Array][])
        hits.push({ generation, position: place, score: score + entry.step * dot(code, query), words: 0 });
    }),
  );
  return hits.sort((a, b) => b.score - a.score).slice(0, 4 * MAX_HITS);
}

const asInt8 = (code: Uint8Array): Int8Array => new Int8Array(code.buffer, code.byteOffset, code.byteLength);

function dot(code: Uint8Array, query: Float64Array): number {
  const values = asInt8(code);
  let sum = 0;
  for (let j = 0; j < values.length; j++) sum += values[j] * query[j];
  return sum;
}

const tableOf = (generation: Generation, name: string): Promise<unknown[][]> =>
  generation.cached(`meaning/${name}/table`, async () => {
    const file = `sections/meaning/${name}.parquet`;
    const bytes = await generation.bytes(file);
    return decodeFile(generation.name(file), () => decodeTable(bytes));
  });
