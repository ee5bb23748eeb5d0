/** Series of the bars: the isolated clusters, or the largest of the coarsest layer. */

import { clusterColour, NOISE, type Rgb } from "../../engine/colour";
import type { ClusterEntry } from "../../engine/format";
import * as state from "../../state";

const MAX_SERIES = 8;

export interface Series {
  name: string;
  rgb: Rgb;
  /** `layer.id` to isolate it by; null for the rest. */
  ref: string | null;
}

export interface SeriesSplit {
  series: Series[];
  of(cluster: number): number;
}

/** The series and the assignment of clusters to them. Reads signals: call it inside an effect. */
export function seriesSplit(): SeriesSplit {
  const theme = state.theme.value;
  const chosen = chosenClusters();
  const places = new Map<number, number>();
  // Coarse clusters first: a document counts once.
  for (const [k, cluster] of chosen.entries())
    for (const id of state.leaves.value.get(refOf(cluster)) ?? []) if (!places.has(id)) places.set(id, k);
  const series: Series[] = chosen.map((cluster) => ({ name: cluster.label, rgb: clusterColour(cluster.hue, cluster.shade, theme), ref: refOf(cluster) }));
  const other = series.push({ name: "other clusters", rgb: state.theme.value === "dark" ? [150, 158, 172] : [112, 120, 134], ref: null }) - 1;
  const noise = series.push({ name: "in no cluster", rgb: NOISE[theme], ref: "n" }) - 1;
  return { series, of: (cluster) => (cluster < 0 ? noise : (places.get(cluster) ?? other)) };
}

const refOf = ({ layer, id }: ClusterEntry): string => `${layer}.${id}`;

function chosenClusters(): ClusterEntry[] {
  const isolated = [...state.isolated.value].flatMap((ref) => state.clustersByRef.value.get(ref) ?? []);
  if (isolated.length) return isolated.sort((a, b) => b.layer - a.layer || b.size - a.size).slice(0, MAX_SERIES);
  const all = state.labels.value?.clusters ?? [];
  const top = all.reduce((most, { layer }) => Math.max(most, layer), 0);
  return all.filter(({ layer }) => layer === top).sort((a, b) => b.size - a.size).slice(0, MAX_SERIES);
}
