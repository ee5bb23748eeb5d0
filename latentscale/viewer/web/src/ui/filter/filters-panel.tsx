/** The filters panel: one filter per column, with crossfilter counts. */

import { useEffect, useState } from "preact/hooks";
import { counts, startCounting, displayedColumns } from "../../counting";
import { keyOf, withFilter, type ColumnFilter } from "../../engine/filters";
import type { ColourColumn } from "../../engine/format";
import { ADDED } from "../../engine/merge";
import { formatValue } from "../../engine/scale";
import * as state from "../../state";
import { Icon } from "../icon";
import { PanelFrame } from "../panel-frame";
import { turn } from "../panel-registry";
import { count, plural, shortened } from "../words";
import { CategoryFilter } from "./category-filter";
import { RangeFilter } from "./range-filter";
import { TextFilter } from "./text-filter";

const ID = "filters";

export function FiltersPanel() {
  useEffect(startCounting, []);
  const { colours, columns } = state.index.value!;
  const coloured = new Set(colours.map(({ name }) => name));
  // Columns without colours are filtered as text.
  const others = columns.filter((name) => !coloured.has(name));
  return (
    <PanelFrame name="Filters" header={<Headline />} closes="Close the filters" onClose={() => turn(ID, false)}>
      {state.filters.value.size > 0 && (
        <p>
          <button class="link" onClick={() => (state.filters.value = new Map())}>
            Clear all filters
          </button>
        </p>
      )}
      <ul class="filters">
        {colours.map((column) => (
          <Item key={column.id} name={column.name} filterKey={keyOf(column)} column={column} />
        ))}
        {others.map((name) => (
          <Item key={`@${name}`} name={name} filterKey={`@${name}`} column={null} />
        ))}
      </ul>
    </PanelFrame>
  );
}

/** Passing documents, and of how many. */
function Headline() {
  const counted = counts.value;
  if (!state.filters.value.size) return <span role="status">No filter</span>;
  const isMatching = [...state.textMatches.value.values()].some(({ documents }) => documents === null);
  if (!counted || isMatching) return <span role="status">Reading…</span>;
  const { base, passing } = counted;
  return (
    <span role="status">
      {count(passing)} of {base.whole ? "all" : "the"} {plural(base.documents, "document")}
      {base.whole ? "" : ` read, of ${count(state.documents.value)},`} pass
    </span>
  );
}

function Item({ name, filterKey, column }: { name: string; filterKey: string; column: ColourColumn | null }) {
  const filter = state.filters.value.get(filterKey) ?? null;
  const [open, setOpen] = useState(filter !== null);
  useEffect(() => {
    if (!open || !column) return;
    displayedColumns.value = new Set(displayedColumns.value).add(filterKey);
    return () => {
      const remaining = new Set(displayedColumns.value);
      remaining.delete(filterKey);
      displayedColumns.value = remaining;
    };
  }, [open]);
  const set = (next: ColumnFilter | null) => (state.filters.value = withFilter(state.filters.value, filterKey, next));
  return (
    <li>
      <div class="filter-head">
        <button class="row" aria-expanded={open} onClick={() => setOpen(!open)}>
          <span class="caret" data-open={open}>
            <Icon name="right" />
          </span>
          <span class="name" dir="auto">
            {name}
          </span>
          <span class="size">{filter ? summary(filter, column) : ""}</span>
        </button>
        {filter && (
          <button class="icon" aria-label={`Clear the filter on ${name}`} onClick={() => set(null)}>
            <Icon name="close" />
          </button>
        )}
      </div>
      {open && (
        <div class="filter-body">
          {column === null ? (
            <TextFilter name={name} filter={filter?.kind === "text" ? filter : null} set={set} />
          ) : column.kind === "categories" ? (
            <CategoryFilter column={column} filter={filter?.kind === "categories" ? filter : null} set={set} />
          ) : (
            <RangeFilter column={column} filter={filter?.kind === "range" ? filter : null} set={set} />
          )}
          {column && column.id !== ADDED && state.colour.value !== column.id && (
            <button class="link" onClick={() => (state.colour.value = column.id)}>
              Colour by it
            </button>
          )}
        </div>
      )}
    </li>
  );
}

function summary(filter: ColumnFilter, column: ColourColumn | null): string {
  if (filter.kind === "text") return filter.contains === null ? "empty" : filter.pattern ? `/${shortened(filter.contains, 16)}/` : `“${shortened(filter.contains, 16)}”`;
  if (filter.kind === "categories") return filter.names.length === 1 ? shortened(filter.names[0].replace(/^@/, "") || "(empty)", 18) : `${filter.names.length} chosen`;
  if (!column || column.kind === "categories") return "";
  const end = (value: number) => (Number.isFinite(value) ? formatValue(value, column) : "");
  return `${end(filter.from)} – ${end(filter.to)}`;
}
