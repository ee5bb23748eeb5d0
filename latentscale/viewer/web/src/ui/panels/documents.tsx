/** Panel with a table of search results, of the selection, or of the documents in view. */

import { effect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { commands } from "../../commands";
import type { Document } from "../../engine/generation";
import { NARROW_WIDTH } from "../../engine/insets";
import { MEANING } from "../../engine/meaning";
import type { Hit } from "../../engine/search";
import { lastSection } from "../../engine/sections";
import { selectionOf, sizeOf } from "../../engine/selection";
import { BY_MEANING } from "../../document-search";
import { selectRows } from "../../selecting";
import * as state from "../../state";
import { textOf, titleOf } from "../hover-card";
import { excerpt, Highlighted } from "../highlighted";
import { PanelFrame } from "../panel-frame";
import { isOpen, panels, register, setOpen, turn } from "../panel-registry";
import { saveRowIds } from "../save";
import { count, plural, shortened, valueText } from "../words";

const ID = "documents";
const TITLE = "Documents";
const SELECTION = "selection";
/** Row height in px, as in `style.css`. */
const ROW = 62;
/** Rows rendered beyond the visible ones on each side. */
const MARGIN = 4;
/** Maximum number of rows that are read for sorting. */
const MAX_SORTED = 200;

register({
  id: ID,
  title: TITLE,
  side: "right",
  open: false,
  Component: DocumentsPanel,
  icon: "M3 4.5h14M3 8.2h14M3 11.8h14M3 15.5h14",
  key: { name: "d", does: "the documents in view, as a table" },
  kept: state.query,
});

const ownPanel = () => panels().find(({ id }) => id === ID)!;
effect(() => {
  state.listing.value = isOpen(ownPanel());
});
/** Whether results opened the panel: it then closes with them. */
let openedBySearch = false;
effect(() => {
  const answer = state.litRows.value;
  // The selection panel shows the selection, and lists it on request.
  const isListedElsewhere = state.shownSelection.value !== null && panels().some((panel) => panel.id === SELECTION && isOpen(panel));
  // On a phone it would cover the map during drawing.
  const drawing = state.tool.value !== null && innerWidth <= NARROW_WIDTH;
  if (answer && !openedBySearch && !isListedElsewhere && !drawing && !isOpen(ownPanel())) {
    openedBySearch = true;
    setOpen(ID, true);
  } else if (!answer && openedBySearch && !state.query.value) {
    openedBySearch = false;
    setOpen(ID, false);
  }
});

/** Cache of read documents by generation and position, for the life of the page. */
const read = new Map<string, Document | "failed">();
const keyOf = ({ generation, position }: state.Row) => `${generation.number}/${position}`;

async function readRow(row: state.Row): Promise<void> {
  const key = keyOf(row);
  if (typeof read.get(key) === "object") return;
  const failed = (error: Error) => {
    state.report("Documents of the list", error);
    return "failed" as const;
  };
  read.set(key, await row.generation.document(row.position).catch(failed));
}

function DocumentsPanel() {
  const rows = state.rows.value;
  const [column, setColumn] = useState("");
  const [order, setOrder] = useState<{ by: "document" | "column"; down: boolean; rows: readonly state.Row[] } | null>(null);
  // A new list resets the sort order.
  useEffect(() => setOrder(null), [rows]);
  const columns = (state.index.value?.columns ?? []).filter((name) => name !== state.index.value?.text);
  const text = ({ document }: { document: Document | "failed" | undefined }, by: string) =>
    typeof document !== "object" ? "" : by === "document" ? titleOf(document) || textOf(document) : valueOf(document, column);
  const sort = async (by: "document" | "column") => {
    const down = order?.by === by && !order.down;
    const part = rows.slice(0, MAX_SORTED);
    await Promise.all(part.map(readRow));
    const keyed = part.map((row) => ({ row, key: text({ document: read.get(keyOf(row)) }, by) }));
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;
    keyed.sort((a, b) => (a.key && b.key ? compare(a.key, b.key) * (down ? -1 : 1) : Number(!a.key) - Number(!b.key)));
    setOrder({ by, down, rows: [...keyed.map(({ row }) => row), ...rows.slice(MAX_SORTED)] });
  };
  const sorted = (by: string) => (order?.by === by ? (order.down ? "descending" : "ascending") : "none");
  const shown = order?.rows ?? rows;
  const all = state.shownSelection.value ? sizeOf(state.shownSelection.value.documents) : rows.length;
  return (
    <PanelFrame name={TITLE} header={<Headline />} closes="Close the documents" wide onClose={() => turn(ID, false)}>
      {rows.length > 0 ? (
        <>
          <div class="columns">
            <button class="link" aria-label={`Sort by document, now ${sorted("document")}`} onClick={() => void sort("document")}>
              Document <Arrow sorted={sorted("document")} />
            </button>
            {columns.length > 0 && (
              <label class="field">
                <span>Column</span>
                <select aria-label="Column beside the documents" value={column} onChange={(event) => setColumn(event.currentTarget.value)}>
                  <option value="">none</option>
                  {columns.map((name) => (
                    <option key={name} value={name}>
                      {name}
                    </option>
                  ))}
                </select>
              </label>
            )}
            {column && (
              <button class="link" aria-label={`Sort by ${column}, now ${sorted("column")}`} onClick={() => void sort("column")}>
                Sort <Arrow sorted={sorted("column")} />
              </button>
            )}
          </div>
          <div class="columns">
            {state.shownSelection.value ? (
              <button class="link" onClick={() => (state.selected.value = null)}>
                Clear the selection
              </button>
            ) : (
              rows.length > 0 && (
                <button class="link" onClick={() => void selectRows(rows, isPartial())}>
                  Select these
                </button>
              )
            )}
            {rows.length > 0 && (
              <button class="link" onClick={() => void saveRowIds(state.shownSelection.value?.documents ?? selectionOf(rows))}>
                Save {count(all)} row {all === 1 ? "id" : "ids"} (CSV)
              </button>
            )}
          </div>
          {order && rows.length > MAX_SORTED && <p class="muted small">The first {count(MAX_SORTED)} are sorted.</p>}
          <Table rows={shown} column={column} />
        </>
      ) : (
        <EmptyList />
      )}
    </PanelFrame>
  );
}

/** Visual sort indicator; the button's label states the order. */
function Arrow({ sorted }: { sorted: "none" | "ascending" | "descending" }) {
  return <span aria-hidden="true">{{ none: "↕", ascending: "↑", descending: "↓" }[sorted]}</span>;
}

/** Suggestions for an empty list. */
function EmptyList() {
  const query = state.query.value.trim();
  const filtered = state.filters.value.size > 0 || state.isolated.value.size > 0;
  const byMeaning = state.index.value !== null && lastSection(state.index.value.generations, MEANING) !== null;
  return (
    <div class="nothing">
      {query && <p class="muted">Words of texts and titles, and whole ids, are searched; the map stays as it was.</p>}
      {!query && !filtered && <p class="muted">Move or zoom out until there are documents in the window.</p>}
      <p class="links">
        {query && byMeaning && state.findBy.value !== BY_MEANING && (
          <button class="button" onClick={() => (state.findBy.value = BY_MEANING)}>
            Search by meaning
          </button>
        )}
        {query && (
          <button class="button" onClick={() => (state.query.value = "")}>
            Clear the search
          </button>
        )}
        {!query && filtered && (
          <button
            class="button"
            onClick={() => {
              state.filters.value = new Map();
              state.isolated.value = new Set();
            }}
          >
            Show all documents
          </button>
        )}
        {!query && (
          <button class="button" onClick={() => commands.home()}>
            First view
          </button>
        )}
      </p>
    </div>
  );
}

/** Whether the list is incomplete. */
const isPartial = (): boolean =>
  state.found.value ? state.found.value.more : state.drawn.value.sampled || state.inView.value.rows.length < state.inView.value.all;

/** What is listed, and how many documents. */
function Headline() {
  const answer = state.found.value;
  const selection = state.shownSelection.value;
  if (selection) {
    const size = sizeOf(selection.documents);
    return (
      <span role="status">
        {plural(size, "document")} selected{selection.part ? ", of those that were drawn and listed" : ""}
        {size > state.MAX_LISTED ? `, the first ${count(state.MAX_LISTED)} listed` : ""}
      </span>
    );
  }
  if (answer?.like !== undefined) {
    const { hits, like, searchable } = answer;
    return (
      <span role="status">
        {plural(hits.length, "document")} most like document {count(like)}
        {searchable < state.documents.value && ` · similar documents are known for ${count(searchable)} of ${count(state.documents.value)}`}
      </span>
    );
  }
  if (answer?.meaning) {
    const { hits, searchable } = answer;
    return (
      <span role="status">
        The {plural(hits.length, "document")} nearest in meaning
        {searchable < state.documents.value && ` · ${count(searchable)} of ${count(state.documents.value)} can be searched so`}
      </span>
    );
  }
  if (answer) {
    const { hits, query, whole, common, more, searchable } = answer;
    const all = state.documents.value;
    const number = `${count(hits.length)}${more ? " or more" : ""} ${hits.length === 1 && !more ? "document" : "documents"}`;
    return (
      <span role="status">
        {!hits.length
          ? "No matching documents"
          : whole
            ? `${number} found`
            : `No document has all words, ${number} some`}
        {whole && common.length > 0 && common.length < query.words.length && ` · too common to narrow it: ${common.join(", ")}`}
        {searchable < all && ` · ${count(searchable)} of ${count(all)} can be searched`}
      </span>
    );
  }
  const { rows, all } = state.inView.value;
  const some = state.isolated.value.size || state.filters.value.size ? " of the filtered" : "";
  return (
    <span role="status">
      {plural(all, "document")}
      {some} in view{state.drawn.value.points > all && !some ? " beside the panels" : ""}{rows.length < all ? `, the ${count(rows.length)} nearest the middle` : ", nearest the middle first"}
    </span>
  );
}

function valueOf(document: Document, column: string): string {
  return valueText(document.values.find(([name]) => name === column)?.[1]);
}

/** A virtualised table: only visible rows are rendered and read. */
function Table({ rows, column }: { rows: readonly state.Row[]; column: string }) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [active, setActive] = useState(0);
  const [, redraw] = useState(0);
  useEffect(() => {
    setActive(0);
    if (box.current) box.current.scrollTop = 0;
    setTop(0);
  }, [rows]);
  useEffect(() => {
    const observer = new ResizeObserver(() => box.current && setHeight(box.current.clientHeight));
    observer.observe(box.current!);
    return () => {
      observer.disconnect();
      commands.point(null);
    };
  }, []);
  const first = Math.max(0, Math.floor(top / ROW) - MARGIN);
  const last = Math.min(rows.length, Math.ceil((top + height) / ROW) + MARGIN);
  const tries = state.retries.value;
  useEffect(() => {
    for (const [key, found] of read) if (found === "failed") read.delete(key);
  }, [tries]);
  useEffect(() => {
    let unmounted = false;
    const missing = rows.slice(first, last).filter((row) => !read.has(keyOf(row)));
    void Promise.all(missing.map(readRow)).then(() => {
      if (!unmounted && missing.length) redraw((n) => n + 1);
    });
    return () => void (unmounted = true);
  }, [rows, first, last, tries]);
  const pinned = state.pinned.value;
  const move = (to: number) => {
    const at = Math.min(rows.length - 1, Math.max(0, to));
    const scroll = box.current!;
    setActive(at);
    if (at * ROW < scroll.scrollTop) scroll.scrollTop = at * ROW;
    if ((at + 1) * ROW > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = (at + 1) * ROW - scroll.clientHeight;
    setTop(scroll.scrollTop);
    requestAnimationFrame(() => scroll.querySelector<HTMLElement>(`[aria-rowindex="${at + 1}"]`)?.focus());
  };
  const onKey = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.floor(height / ROW) - 1);
    const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length };
    if (event.key in steps) move(active + steps[event.key]);
    else if (event.key === "Enter" && rows[active]) pin(rows[active]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const tabStop = Math.min(active, Math.max(0, rows.length - 1));
  return (
    <div class="table" ref={box} role="grid" aria-label="Documents" aria-rowcount={rows.length} onScroll={() => setTop(box.current!.scrollTop)} onKeyDown={onKey}>
      <div role="rowgroup" style={{ height: `${rows.length * ROW}px` }}>
        {rows.slice(first, last).map((row, i) => {
          const at = first + i;
          const document = read.get(keyOf(row));
          const isPinned = pinned !== null && pinned.position === row.position && pinned.generation === row.generation.number;
          return (
            <div
              class="document-row"
              role="row"
              key={keyOf(row)}
              aria-rowindex={at + 1}
              aria-selected={isPinned}
              tabIndex={at === tabStop ? 0 : -1}
              style={{ top: `${at * ROW}px` }}
              onClick={() => {
                setActive(at);
                pin(row);
              }}
              onFocus={() => commands.point(row)}
              onBlur={() => commands.point(null)}
              onPointerEnter={() => commands.point(row)}
              onPointerLeave={() => commands.point(null)}
            >
              <div role="gridcell">
                {document === undefined ? (
                  <span class="muted">Reading…</span>
                ) : document === "failed" ? (
                  <span class="muted">The document could not be read.</span>
                ) : (
                  <DocumentSummary document={document} similarity={similarityOf(row)} />
                )}
              </div>
              {column && (
                <div role="gridcell" class="beside">
                  {typeof document === "object" ? shortened(valueOf(document, column), 80) || "–" : ""}
                </div>
              )}
            </div>
          );
        })}
      </div>
    </div>
  );
}

/** Similarity of a document to the query, for similarity and semantic searches. */
function similarityOf(row: state.Row): number | null {
  const answer = state.found.value;
  return (answer?.like !== undefined || answer?.meaning) && !state.shownSelection.value && "score" in row ? (row as Hit).score : null;
}

/** Title and text excerpt around the query words. */
function DocumentSummary({ document, similarity }: { document: Document; similarity: number | null }) {
  const query = state.found.value?.query;
  const title = titleOf(document);
  const text = textOf(document) || (title ? "" : document.values.slice(0, 3).map(([, value]) => valueText(value)).join(" · "));
  const score = similarity?.toFixed(2);
  return (
    <>
      {title && score && (
        <span class="score" title="Cosine similarity">
          {score}
        </span>
      )}
      {title && (
        <strong dir="auto">
          <Highlighted text={shortened(title, 90)} />
        </strong>
      )}
      <span dir="auto">
        {!title && score && `${score} · `}
        <Highlighted text={excerpt(text, title ? 150 : 220, query)} />
      </span>
    </>
  );
}

function pin(row: state.Row): void {
  // On a phone there is room for only one of the two.
  if (innerWidth <= NARROW_WIDTH) setOpen(ID, false);
  commands.pinAt(row);
}

/** Pin the next or previous document of the list; returns false at its end. */
export function stepInList(by: number): boolean {
  const rows = state.rows.value;
  const at = pinnedIndex();
  const next = rows[at < 0 ? 0 : at + by];
  if (next) commands.pinAt(next);
  return next !== undefined;
}

/** Index of the pinned document in the list, or -1. */
export function pinnedIndex(): number {
  const pinned = state.pinned.value;
  return pinned ? state.rows.value.findIndex(({ generation, position }) => position === pinned.position && generation.number === pinned.generation) : -1;
}
