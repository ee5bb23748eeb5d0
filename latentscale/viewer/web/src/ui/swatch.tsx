/** Colour swatches and names of clusters. */

import { clusterColour, css, NOISE, type Rgb } from "../engine/colour";
import type { ClusterEntry } from "../engine/format";
import { labelPieces } from "../engine/label-breaks";
import { hasHues } from "../map/shading";
import * as state from "../state";

export function Swatch({ rgb, hollow = false }: { rgb: Rgb; hollow?: boolean }) {
  return <span class={`swatch ${hollow ? "hollow" : ""}`} style={{ color: css(rgb) }} aria-hidden="true" />;
}

export function ClusterSwatch({ cluster }: { cluster: ClusterEntry | null | undefined }) {
  const theme = state.theme.value;
  // While points have other colours, the swatch is a ring: the hue only identifies the cluster's label.
  return <Swatch hollow={!hasHues()} rgb={cluster ? clusterColour(cluster.hue, cluster.shade, theme) : NOISE[theme]} />;
}

/** A cluster's name that may wrap; `bdi` isolates right-to-left text. */
export function ClusterName({ label }: { label: string }) {
  return <bdi>{labelPieces(label).map((piece, i) => (i % 2 ? <span class="whole" key={i}>{piece}</span> : piece))}</bdi>;
}

/** The cluster of layer 0 with an id. */
export function clusterAt(id: number): ClusterEntry | undefined {
  return state.clustersByRef.value.get(`0.${id}`);
}

/** The cluster's name, preceded by its ancestors. */
export function ClusterPath({ id }: { id: number }) {
  const cluster = clusterAt(id);
  if (state.manifest.value?.preview) return null;
  if (!cluster)
    return (
      <span class="cluster-path">
        <ClusterSwatch cluster={null} />
        {id < 0 ? "In no cluster (noise)" : `Cluster ${id}`}
      </span>
    );
  const above: ClusterEntry[] = [];
  for (let at = cluster, layer = 1; (at = state.ancestor(cluster, layer)).layer === layer; layer++) above.unshift(at);
  return (
    <span class="cluster-path">
      <ClusterSwatch cluster={cluster} />
      <span>
        {above.map((one) => (
          <span class="muted" key={one.layer}>
            <ClusterName label={one.label} /> ›{" "}
          </span>
        ))}
        <ClusterName label={cluster.label} />
      </span>
    </span>
  );
}
