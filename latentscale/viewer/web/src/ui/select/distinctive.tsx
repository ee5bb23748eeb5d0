/** Distinctive features of the selection: clusters, column values and words. */

import { useEffect, useState } from "preact/hooks";
import { readCountedTiles, readColumn } from "../../counting";
import type { Base } from "../../engine/crossfilter";
import { categoryName, countSelectedIn, shareOf, sharesByCode, shiftOf, evenSample, significant, type Share, type Shift } from "../../engine/distinctive";
import { ADDED } from "../../engine/merge";
import { formatValue } from "../../engine/scale";
import { forEachConcurrent } from "../../engine/scan";
import { documentFrequencies } from "../../engine/search";
import { searchEntryOf } from "../../engine/search-entry";
import { sizeOf, type Selection } from "../../engine/selection";
import { tokens } from "../../engine/tokens";
import * as state from "../../state";
import { textOf, titleOf } from "../hover-card";
import { count, plural } from "../words";

/** Maximum rows per list. */
const MAX_ROWS = 8;
/** Maximum documents whose words are read, and words looked up in the index. */
const MAX_TEXTS = 120;
const MAX_WORDS = 48;
/** Minimum deviation of the probability of superiority from 0.5 to be reported. */
const MIN_SHIFT = 0.08;

interface Comparison {
  base: Base;
  /** Selected documents among the counted ones. */
  selected: number;
  clusters: Share[];
  values: Share[];
  shifts: Shift[];
}

async function compareSelection(selection: Selection): Promise<Comparison> {
  const base = await readCountedTiles();
  const columns = (state.index.value?.colours ?? []).filter(({ id }) => id !== ADDED);
  const values: Share[] = [];
  const shifts: Shift[] = [];
  for (const column of columns) {
    const own = await readColumn(base, column);
    if (column.kind === "categories")
      values.push(...sharesByCode(base, selection, own, (code) => categoryName(column, code)).map((one) => ({ ...one, name: `${column.name}: ${one.name || "(empty)"}` })));
    else {
      const found = shiftOf(base, selection, column, own);
      if (found && found.values > 9 && Math.abs(found.larger - 0.5) >= MIN_SHIFT) shifts.push(found);
    }
  }
  const clusters = sharesByCode(base, selection, (tile) => tile.cluster, (id) => (id < 0 ? "In no cluster (noise)" : (state.clustersByRef.value.get(`0.${id}`)?.label ?? `Cluster ${id}`)));
  shifts.sort((a, b) => Math.abs(b.larger - 0.5) - Math.abs(a.larger - 0.5));
  return { base, selected: countSelectedIn(base, selection), clusters: significant(clusters), values: significant(values), shifts };
}

/** Words over-represented in a sample of the selected texts; null if the map has no word index. */
async function compareWords(selection: Selection): Promise<{ read: number; words: Share[] } | null> {
  const generations = state.generations.value;
  const entries = await Promise.all(generations.map(searchEntryOf));
  const indexed = entries.reduce((sum, entry) => sum + (entry?.documents ?? 0), 0);
  if (!indexed) return null;
  const rows = evenSample(selection, generations, MAX_TEXTS);
  const inside = new Map<string, number>();
  await forEachConcurrent(rows, async ({ generation, position }) => {
    const document = await generation.document(position);
    const words = new Set(tokens(`${titleOf(document)} ${textOf(document)}`));
    for (const word of words) inside.set(word, (inside.get(word) ?? 0) + 1);
  });
  const candidates = [...inside].filter(([word, n]) => n > 1 && /[^\d]/.test(word) && word.length > 1).sort((a, b) => b[1] - a[1]).slice(0, MAX_WORDS);
  const all = await documentFrequencies(generations, candidates.map(([word]) => word));
  return { read: rows.length, words: significant(candidates.map(([word, n]) => shareOf(word, n, rows.length, Math.max(n, all.get(word) ?? 0), indexed))) };
}

export function DistinctiveFeatures({ selection }: { selection: Selection }) {
  const [apart, setApart] = useState<Comparison | null>(null);
  const [words, setWords] = useState<Awaited<ReturnType<typeof compareWords>> | "reading">("reading");
  useEffect(() => {
    let unmounted = false;
    const ifMounted = <T,>(set: (found: T) => void) => (found: T) => void (unmounted || set(found));
    const failed = (error: Error) => state.report("What sets the selection apart", error);
    setApart(null);
    setWords("reading");
    compareSelection(selection).then(ifMounted(setApart), failed);
    compareWords(selection).then(ifMounted(setWords), failed);
    return () => void (unmounted = true);
  }, [selection]);
  if (!apart) return <p class="muted" role="status">Comparing…</p>;
  const { base, selected, clusters, values, shifts } = apart;
  const nothing = !clusters.length && !values.length && !shifts.length && words !== "reading" && !words?.words.length;
  return (
    <>
      <p class="muted small" role="status">
        {base.whole
          ? `Against all ${plural(base.documents, "document")}`
          : `${count(selected)} of the ${count(sizeOf(selection))}, against the ${count(base.documents)} documents that were read of ${count(state.documents.value)}`}
        {nothing ? ": nothing stands out" : ""}
      </p>
      <Shares title="Clusters" shares={clusters} />
      <Shares title="Values" shares={values} />
      {shifts.length > 0 && (
        <>
          <h2 class="part">Numbers and dates</h2>
          <ul class="apart">
            {shifts.slice(0, MAX_ROWS).map(({ column, larger, medianInside, medianOutside }) => (
              <li key={column.id}>
                <span class="name" dir="auto">
                  {column.name} {larger > 0.5 ? "higher" : "lower"}
                </span>
                <span class="size">
                  {formatValue(medianInside, column)}, others {formatValue(medianOutside, column)} (medians)
                </span>
              </li>
            ))}
          </ul>
        </>
      )}
      {words === "reading" ? <p class="muted small">Reading words…</p> : words && <Shares title={`Words of ${plural(words.read, "text")}`} shares={words.words} />}
    </>
  );
}

function Shares({ title, shares: list }: { title: string; shares: Share[] }) {
  if (!list.length) return null;
  return (
    <>
      <h2 class="part">{title}</h2>
      <ul class="apart">
        {list.slice(0, MAX_ROWS).map(({ name, inside, all, lift }) => (
          <li key={name}>
            <span class="name" dir="auto" title={name}>
              {name}
            </span>
            <span class="size">
              {count(inside)} of {count(all)} · {lift >= 10 ? Math.round(lift) : lift.toFixed(1)}×
            </span>
          </li>
        ))}
      </ul>
    </>
  );
}
