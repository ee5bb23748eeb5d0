/** Distinctive features of a cluster besides keyphrases: column values, numbers, and its most similar cluster. */

import type { ComponentChildren } from "preact";
import { commands } from "../commands";
import type { ClusterDetail, ClusterEntry, NumberShift, ValueShare } from "../engine/format";
import * as state from "../state";
import { ClusterSwatch, ClusterName } from "./swatch";

const share = (value: number): string => (value > 0 && value < 0.01 ? "under 1 %" : `${Math.round(value * 100)} %`);
const times = (value: number): string => (value >= 10 ? `${Math.round(value)}` : value.toFixed(1));

export function ColumnEvidence({ detail: { columns, numbers } }: { detail: ClusterDetail }) {
  if (!columns && !numbers) return null;
  return (
    <>
      <h3>Sets it apart</h3>
      <dl class="evidence">
        {columns?.map((one) => <Share key={`${one[0]}=${one[1]}`} one={one} />)}
        {numbers?.map((one) => <Shift key={one[0]} one={one} />)}
      </dl>
    </>
  );
}

/** The most similar cluster, followed by some of its documents. */
export function Sibling({ cluster, detail, children }: { cluster: ClusterEntry; detail: ClusterDetail; children: ComponentChildren }) {
  const sibling = state.clustersByRef.value.get(`${cluster.layer}.${detail.sibling}`);
  if (!sibling) return null;
  return (
    <>
      <h3>Most like it</h3>
      <button
        class="link"
        onClick={() => {
          state.isolated.value = new Set([`${sibling.layer}.${sibling.id}`]);
          commands.reveal(sibling);
        }}
      >
        <ClusterSwatch cluster={sibling} /> <ClusterName label={sibling.label} />
      </button>
      {children}
    </>
  );
}

function Share({ one: [column, value, inside, outside, lift, low, high] }: { one: ValueShare }) {
  return (
    <div>
      <dt>{column}</dt>
      <dd>
        {value || "(empty)"}: {share(inside)} of its documents, {share(outside)} of the others{" "}
        <span class="muted" title="How many times more common it is here, with the interval of 95 %">
          ×&nbsp;{times(lift)} ({times(low)} to {times(high)})
        </span>
      </dd>
    </div>
  );
}

function Shift({ one: [column, median, elsewhere, above, low, high] }: { one: NumberShift }) {
  return (
    <div>
      <dt>{column}</dt>
      <dd>
        median {median}, of the others {elsewhere}{" "}
        <span class="muted" title="Of pairs of a document from here and one from elsewhere, with the interval of 95 %">
          {above >= 0.5
            ? `larger here in ${share(above)} of pairs (${share(low)} to ${share(high)})`
            : `smaller here in ${share(1 - above)} of pairs (${share(1 - high)} to ${share(1 - low)})`}
        </span>
      </dd>
    </div>
  );
}
