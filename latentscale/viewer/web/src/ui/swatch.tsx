/** Colours and names of clusters, the same wherever they are shown. */

import { clusterColour, css, NOISE, type Rgb } from "../engine/colour";
import type { ClusterEntry } from "../engine/format";
import * as state from "../state";

export function Swatch({ rgb }: { rgb: Rgb }) {
  return <span class="swatch" style={{ backgroundColor: css(rgb) }} aria-hidden="true" />;
}

export function ClusterSwatch({ cluster }: { cluster: ClusterEntry | null | undefined }) {
  const theme = state.theme.value;
  return <Swatch rgb={cluster ? clusterColour(cluster.hue, cluster.shade, theme) : NOISE[theme]} />;
}

export function clusterAt(id: number): ClusterEntry | undefined {
  return state.byRef.value.get(`0.${id}`);
}

/** The cluster's name, and the coarser ones that it is part of. */
export function ClusterPath({ id }: { id: number }) {
  const cluster = clusterAt(id);
  if (!cluster)
    return (
      <span class="cluster-path">
        <ClusterSwatch cluster={null} />
        {id < 0 ? "In no cluster (noise)" : `Cluster ${id}`}
      </span>
    );
  const top = state.ancestor(cluster, 99);
  return (
    <span class="cluster-path">
      <ClusterSwatch cluster={cluster} />
      <span>
        {top !== cluster && <span class="muted">{top.label} › </span>}
        {cluster.label}
      </span>
    </span>
  );
}
