/** The panel about the map: quality figures with explanations, and provenance. */

import type { Quality } from "../../engine/format";
import { MEANING } from "../../engine/meaning";
import { section } from "../../engine/sections";
import * as state from "../../state";
import { PanelFrame } from "../panel-frame";
import { turn } from "../panel-registry";
import { count, percent, plural } from "../words";
import { about, ID, quality, TITLE } from "./about";

/** The semantic search section, which the generation of a fit has. */
const meaningEntry = () => state.index.value?.generations.map((one) => section(one, MEANING)).find((entry) => entry !== null);

export function AboutPanel() {
  const measured = quality();
  return (
    <PanelFrame name={TITLE} header={TITLE} closes="Close the panel about the map" onClose={() => turn(ID, false)}>
      {measured && <Figures q={measured} />}
      {about().length > 0 && (
        <>
          <h3>How it was made</h3>
          <dl>
            {about().map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
        </>
      )}
    </PanelFrame>
  );
}

function Figures({ q }: { q: Quality }) {
  const { against, growth } = q;
  const figures: [name: string, value: string | undefined, means: string][] = [
    ["Trustworthiness", fixed(q.trustworthiness), "documents close on the map are alike"],
    ["Neighbours kept", share(q.preservation), `of the ${q.k} nearest`],
    ["The same in space", share(q.space?.preservation ?? null), `of the ${q.k} nearest; trustworthiness ${fixed(q.space?.trustworthiness ?? null)}`],
    ["Search recall", share(q.recall), "of true neighbours found"],
    ["Found by meaning", share(meaningEntry()?.recall ?? null), `of the 10 nearest, with ${count(meaningEntry()?.queries ?? 0)} keyphrases of several words`],
    ["Noise", share(q.noise_share), "of the documents, in no cluster"],
    ["Duplicates", share(q.duplicates), "identical to another"],
    ["Outliers", share(q.outlier_rate), "far off the map"],
    ["Separate parts", q.components > 1 ? count(q.components) : undefined, `${share(q.largest_component)} in the largest`],
    ["Stability", fixed(q.stability), "ARI of two seeds"],
  ];
  if (against) figures.push([against.column, fixed(against.nmi), `NMI with the clusters; ARI ${fixed(against.ari)}, purity ${fixed(against.purity)}`]);
  return (
    <>
      {q.red_flags.map((flag) => (
        <p class="flag" key={flag}>
          {flag}
        </p>
      ))}
      {!q.red_flags.length && <p>No figure indicates a problem.</p>}
      <dl>
        {figures.map(
          ([name, value, means]) =>
            value && (
              <div key={name}>
                <dt>{name}</dt>
                <dd>
                  {value} <span class="muted small">{means}</span>
                </dd>
              </div>
            ),
        )}
      </dl>
      <p class="muted small">
        Measured on {count(q.sample)} of {plural(q.documents, "document")} in {plural(q.clusters, "cluster")}
        {growth &&
          ` of the last fit; since then ${count(growth.added)} were added (${percent(growth.added, growth.fitted)}), ${count(growth.removed)} removed`}
        . ({q.map})
      </p>
      {growth?.refit_due && <p class="flag">A new fit is due. {growth.reasons.join(" ")}</p>}
    </>
  );
}

const fixed = (value: number | null) => value?.toFixed(2);
const share = (value: number | null) => (value === null ? undefined : percent(value, 1));
