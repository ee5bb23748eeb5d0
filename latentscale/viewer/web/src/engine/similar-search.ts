/**
 * "More like this": nearest neighbours stored at publishing; a query reads one or two files, whatever the size of the
 * map.
 */

import type { Generation } from "./generation";
import { decodeTable } from "./parquet";
import type { Hit } from "./search";
import { section } from "./sections";
import { SIMILAR, type SimilarEntry } from "./similar";
import { decodeFile } from "./store";

/** The nearest documents of one by cosine similarity, without removed ones; null if its neighbours are not stored. */
export async function similarTo(generations: readonly Generation[], { generation, position }: { generation: Generation; position: number }): Promise<Hit[] | null> {
  const entry = section(await generation.index(), SIMILAR);
  if (!entry) return null;
  const reverse = generations.slice(generation.number + 1).map((other) => reverseNeighbours(other, generation, position));
  const pairs = [...(await storedNeighbours(generations, generation, entry, position)), ...(await Promise.all(reverse)).flat()];
  const hits: Hit[] = [];
  const seen = new Set<string>();
  for (const hit of pairs.sort((a, b) => b.score - a.score || b.generation.number - a.generation.number || a.position - b.position)) {
    const key = `${hit.generation.number}/${hit.position}`;
    if (seen.has(key) || (await hit.generation.isRemoved(hit.position))) continue;
    seen.add(key);
    hits.push(hit);
  }
  return hits.slice(0, entry.k);
}

const hit = (generation: Generation, position: number, similarity: number): Hit => ({ generation, position, score: similarity / 255, words: 0 });

async function storedNeighbours(generations: readonly Generation[], generation: Generation, entry: SimilarEntry, position: number): Promise<Hit[]> {
  const rows = await tableOf(generation, `lists/${Math.floor(position / entry.rows)}`);
  const start = (position % entry.rows) * entry.k;
  const found: Hit[] = [];
  for (const [place, similarity, of = 0] of rows.slice(start, start + entry.k)) {
    const owner = of ? ofMap(generations, entry.earlier![of - 1]) : generation;
    if (owner) found.push(hit(owner, place, similarity));
  }
  return found;
}

/** Documents of a later generation that are among the nearest neighbours of one. */
async function reverseNeighbours(later: Generation, generation: Generation, position: number): Promise<Hit[]> {
  const entry = section(await later.index(), SIMILAR);
  const of = 1 + (entry?.earlier ?? []).findIndex((map) => isOf(generation, map));
  if (!entry?.back || !of) return [];
  const { first } = entry.back;
  const precedes = ([o, p]: [number, number]) => o < of || (o === of && p < position);
  const found: Hit[] = [];
  // The entries of one document may continue in the next file.
  for (let file = Math.max(0, first.findLastIndex(precedes)); file < first.length && !follows(first[file]); file++)
    for (const [o, place, like, similarity] of await tableOf(later, `back/${file}`))
      if (o === of && place === position) found.push(hit(later, like, similarity));
  return found;

  function follows([o, p]: [number, number]): boolean {
    return o > of || (o === of && p > position);
  }
}

const isOf = ({ entry }: Generation, map: string): boolean => entry.url.split("/").includes(map);
const ofMap = (generations: readonly Generation[], map: string): Generation | undefined => generations.find((one) => isOf(one, map));

const tableOf = (generation: Generation, name: string): Promise<number[][]> =>
  generation.cached(`similar/${name}`, async () => {
    const file = `sections/similar/${name}.parquet`;
    const bytes = await generation.bytes(file);
    return (await decodeFile(generation.name(file), () => decodeTable(bytes))) as number[][];
  });
