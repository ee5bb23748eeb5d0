/** Legend of colourings other than by cluster, loaded on demand. */

import { BAND_NAMES, bandColour, BANDS } from "../engine/density-bands";
import { css, rampColour } from "../engine/colour";
import type { CategoryColumn, NumberColumn } from "../engine/format";
import { ADDED, OTHER } from "../engine/merge";
import { formatValue, NO_VALUE, valueAt } from "../engine/scale";
import { categoryCodeColour } from "../map/shading";
import { selectDocuments } from "../selecting";
import * as state from "../state";
import { chooseCategories } from "./categories";
import { Swatch } from "./swatch";
import { count } from "./words";

export function Legend() {
  const column = state.column.value;
  if (column) return column.kind === "categories" ? <Categories column={column} /> : <Ramp column={column} />;
  if (state.colour.value === BANDS) return <Bands />;
  return (
    <div class="ramp">
      <RampBar />
      <div class="ramp-ends">
        <span>sparse</span>
        <span>dense (logarithmic)</span>
      </div>
    </div>
  );
}

function Bands() {
  return (
    <ul class="rows" aria-label="Quarters of the documents by the density of space around them">
      {BAND_NAMES.map((name, band) => (
        <li key={name} class="row band">
          <Swatch rgb={bandColour(band, state.theme.value)} />
          <span class="name">{name}</span>
        </li>
      ))}
    </ul>
  );
}

function RampBar() {
  const theme = state.theme.value;
  const stops = Array.from({ length: 13 }, (_, i) => css(rampColour(i / 12, theme)));
  return <div class="ramp-bar" style={{ backgroundImage: `linear-gradient(to right, ${stops.join(", ")})` }} />;
}

function Ramp({ column }: { column: NumberColumn }) {
  const kind = state.scale.value;
  const choose = (value: "linear" | "quantile") => {
    state.scaleChosen.value = true;
    state.scale.value = value;
  };
  return (
    <div class="ramp">
      <RampBar />
      <div class="ramp-ends">
        {[0, 0.5, 1].map((t) => (
          <span key={t}>{formatValue(valueAt(t, column, kind), column)}</span>
        ))}
      </div>
      <div class="choice" role="group" aria-label="Scale of the colours">
        <button aria-pressed={kind === "linear"} onClick={() => choose("linear")}>
          Linear
        </button>
        <button aria-pressed={kind === "quantile"} onClick={() => choose("quantile")}>
          Quantiles
        </button>
      </div>
      {column.nulls > 0 && (
        <p class="muted small">
          {count(column.nulls)} of {count(state.documents.value)} documents have no value
        </p>
      )}
    </div>
  );
}

function Categories({ column }: { column: CategoryColumn }) {
  const theme = state.theme.value;
  const all = column.categories.map(([name, size], code): [code: number, name: string, size: number] => [code, name, size]);
  // Sorted by size, since codes are stable across updates but sizes are not; generations latest first.
  const rows = column.id === ADDED ? all.reverse() : all.sort((a, b) => b[2] - a[2]).filter(([, , size]) => size > 0);
  if (column.other[1]) rows.push([OTHER, `${count(column.other[0])} others`, column.other[1]]);
  if (column.nulls) rows.push([NO_VALUE, "no value", column.nulls]);
  const chosen = state.categories.value;
  // A tag is a set of documents, not a column value: select it instead of filtering.
  const choose = (code: number) => {
    if (column.id !== state.TAGS) chooseCategories(column, state.toggled(chosen, code));
    else if (state.tagged.value[code]) void selectDocuments(state.tagged.value[code].documents);
  };
  return (
    <ul class="rows categories" aria-label={`Values of ${column.name}, with their number of documents`}>
      {rows.map(([code, name, size]) => (
        <li key={code}>
          <button
            class={`row ${chosen.size && !chosen.has(code) ? "off" : ""}`}
            aria-pressed={chosen.has(code)}
            title={name}
            onClick={() => choose(code)}
          >
            <Swatch rgb={categoryCodeColour(column, code, theme)} />
            <span class={code >= OTHER ? "name muted" : "name"}>{name || "(empty)"}</span>
            <span class="size">{count(size)}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}
