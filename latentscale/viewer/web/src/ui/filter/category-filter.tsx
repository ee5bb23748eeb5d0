/** Filter of a categorical column: checkboxes with document counts. */

import { useState } from "preact/hooks";
import { counts } from "../../counting";
import { categoryCodes, categoryNames } from "../../engine/column-names";
import { keyOf, type ColumnFilter } from "../../engine/filters";
import type { CategoryColumn } from "../../engine/format";
import { ADDED, OTHER } from "../../engine/merge";
import { NO_VALUE } from "../../engine/scale";
import { categoryCodeColour } from "../../map/shading";
import * as state from "../../state";
import { Swatch } from "../swatch";
import { count } from "../words";
import type { FilterProps } from "./filter-props";

/** With more categories than this, there is a search field. */
const SEARCH_FROM = 10;

export function CategoryFilter({ column, filter, set }: { column: CategoryColumn } & FilterProps<Extract<ColumnFilter, { kind: "categories" }>>) {
  const [words, setWords] = useState("");
  const counted = counts.value?.columns.get(keyOf(column));
  const all = column.categories.map(([name, size], code) => ({ code, name: name || "(empty)", size }));
  const rows = column.id === ADDED ? all.reverse() : all.filter(({ size }) => size > 0).sort((a, b) => b.size - a.size);
  if (column.other[1]) rows.push({ code: OTHER, name: `${count(column.other[0])} others`, size: column.other[1] });
  if (column.nulls) rows.push({ code: NO_VALUE, name: "no value", size: column.nulls });
  const chosen = new Set(filter ? categoryCodes(filter.names, column) : rows.map(({ code }) => code));
  const choose = (codes: ReadonlySet<number>) => {
    const names = categoryNames(rows.map(({ code }) => code).filter((code) => codes.has(code)), column);
    set(names.length === rows.length ? null : { kind: "categories", names });
  };
  const matching = rows.filter(({ name }) => name.toLowerCase().includes(words.trim().toLowerCase()));
  const withMatching = (on: boolean) => new Set(rows.map(({ code }) => code).filter((code) => (matching.some((row) => row.code === code) ? on : chosen.has(code))));
  const coloured = state.colour.value === column.id;
  return (
    <>
      {rows.length > SEARCH_FROM && (
        <input
          type="search"
          placeholder={`Find among ${count(rows.length)}`}
          aria-label={`Find among the values of ${column.name}`}
          value={words}
          onInput={(event) => setWords(event.currentTarget.value)}
        />
      )}
      <p class="filter-tools">
        <button class="link" onClick={() => choose(withMatching(true))}>
          {words ? "Check these" : "All"}
        </button>
        <button class="link" onClick={() => choose(withMatching(false))}>
          {words ? "Uncheck these" : "None"}
        </button>
      </p>
      <ul class="checks" aria-label={`Values of ${column.name}, with their number of documents`}>
        {matching.map(({ code, name, size }) => (
          <li key={code}>
            <label>
              <input type="checkbox" checked={chosen.has(code)} onChange={() => choose(state.toggled(chosen, code))} />
              {coloured && <Swatch rgb={categoryCodeColour(column, code, state.theme.value)} />}
              <span class="name" dir="auto">
                {name}
              </span>
              <span class="size">{count(counted ? counted.passing[code] : size)}</span>
            </label>
          </li>
        ))}
        {!matching.length && <li class="muted small">No matching values</li>}
      </ul>
    </>
  );
}
