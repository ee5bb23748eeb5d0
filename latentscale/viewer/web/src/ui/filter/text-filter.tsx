/** Filter of texts: substring, regular expression, or empty. All texts are read once it is applied. */

import { useEffect, useState } from "preact/hooks";
import { bytesOfTexts } from "../../engine/text-scan";
import type { ColumnFilter } from "../../engine/filters";
import { patternError } from "../../engine/pattern-syntax";
import { sizeOf } from "../../engine/selection";
import * as state from "../../state";
import { plural } from "../words";
import type { FilterProps } from "./filter-props";

export function TextFilter({ name, filter, set }: { name: string } & FilterProps<Extract<ColumnFilter, { kind: "text" }>>) {
  const [typed, setTyped] = useState(filter?.contains ?? "");
  const [pattern, setPattern] = useState(filter?.pattern ?? false);
  const [bytes, setBytes] = useState<number | null>(null);
  useEffect(() => {
    bytesOfTexts(state.generations.value).then(setBytes, (error: Error) => state.report(name, error));
  }, []);
  const fault = pattern && typed ? patternError(typed) : null;
  const apply = () => {
    if (!fault) set(typed ? { kind: "text", contains: typed, ...(pattern ? { pattern } : {}) } : null);
  };
  const match = state.textMatches.value.get(`@${name}`);
  return (
    <>
      <div class="field">
        <input
          type="search"
          placeholder={pattern ? "matches" : "contains"}
          aria-label={`${name} ${pattern ? "matches" : "contains"}`}
          aria-invalid={fault !== null}
          value={typed}
          onInput={(event) => setTyped(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter") apply();
          }}
        />
        <button class="button" disabled={fault !== null} onClick={apply}>
          Filter
        </button>
      </div>
      {fault && (
        <p class="flag" role="alert">
          {fault}
        </p>
      )}
      {/* Single-file pages cannot start workers. */}
      {!state.inOneFile.value && (
        <label class="check">
          <input type="checkbox" checked={pattern} onChange={(event) => setPattern(event.currentTarget.checked)} />
          <span class="name">as a regular expression</span>
        </label>
      )}
      <label class="check">
        <input
          type="checkbox"
          checked={filter !== null && filter.contains === null}
          onChange={(event) => set(event.currentTarget.checked ? { kind: "text", contains: null } : null)}
        />
        <span class="name">is empty</span>
      </label>
      <p class="muted small" role="status">
        {filter && match
          ? match.documents
            ? `${plural(sizeOf(match.documents), "document")} of all`
            : "Reading the texts…"
          : bytes === null
            ? ""
            : `Reads all texts of the map, ${(bytes / 1e6).toFixed(1)} MB, once it is used.`}
      </p>
    </>
  );
}
