/** Choice of the column that point size encodes, and its legend. */

import { formatValue } from "../engine/scale";
import { sizeFactorOf, isLogarithmic, scaleMiddle } from "../engine/size-scale";
import * as state from "../state";
import { count } from "./words";

export function SizeBy() {
  const columns = (state.index.value?.colours ?? []).filter(({ kind }) => kind === "numbers");
  if (!columns.length) return null;
  return (
    <label class="slider">
      <span>Size by</span>
      <select value={state.sizeBy.value} onChange={(event) => (state.sizeBy.value = event.currentTarget.value)}>
        <option value="">All the same</option>
        {columns.map(({ id, name }) => (
          <option key={id} value={id}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Diameter in px of a legend dot of factor 1. */
const DOT = 6;

export function SizeLegend() {
  const column = state.sizeColumn.value;
  if (!column) return null;
  const grown = sizeFactorOf(column);
  const shown = [...new Set([column.min, scaleMiddle(column), column.max])];
  return (
    <section class="sizes" aria-label={`Sizes by ${column.name}`}>
      <p class="links small">
        <span class="muted">
          Size by {column.name}
          {isLogarithmic(column) ? " (logarithmic)" : ""}
        </span>
        <button class="link" onClick={() => (state.sizeBy.value = "")}>
          All the same
        </button>
      </p>
      <div class="ramp-ends">
        {shown.map((value) => (
          <span key={value}>
            <i class="dot" style={{ width: `${DOT * grown(value)}px`, height: `${DOT * grown(value)}px` }} aria-hidden="true" /> {formatValue(value, column)}
          </span>
        ))}
      </div>
      {column.nulls > 0 && (
        <p class="muted small">
          {count(column.nulls)} of {count(state.documents.value)} documents have no value: they have the smallest size
        </p>
      )}
    </section>
  );
}
