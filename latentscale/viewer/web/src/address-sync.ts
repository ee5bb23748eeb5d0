/** Two-way binding of the URL fragment and the page's state: typed addresses, Back and Forward. */

import { effect, untracked } from "@preact/signals";
import { readAddress, writeAddress, type AddressState } from "./engine/address";
import { BANDS } from "./engine/density-bands";
import { categoryCodes, categoryNames, colourName, colourFromName } from "./engine/column-names";
import { columnOf, keyOf, withFilter, type Filters } from "./engine/filters";
import { betterScale } from "./engine/scale";
import type { MapView } from "./map/map-view";
import * as state from "./state";
import { panelAddress, restorePanels } from "./ui/panel-registry";

/** Debounce: several changes often come together. */
const WRITE_DELAY_MS = 250;
const dark = matchMedia("(prefers-color-scheme: dark)");

/** The address last applied; its column and cluster names are resolved once the index and the labels are loaded. */
let pending: AddressState = {};
/** History key of the address last written. */
let lastKey = "";
let viewMoved = false;
/** Nesting depth of `withoutHistoryStep`: while it is positive, nothing is written. */
let applying = 0;

const systemTheme = () => (dark.matches ? "dark" : "light");

/** Apply everything in an address that needs no file. */
export function applyAddress(address: AddressState): void {
  pending = address;
  viewMoved = address.view !== undefined;
  state.theme.value = address.theme ?? systemTheme();
  state.themeChosen.value = address.theme !== undefined;
  state.sizeFactor.value = address.size ?? 1;
  state.opacityFactor.value = address.opacity ?? 1;
  state.contours.value = address.contours ?? false;
  state.scaleChosen.value = address.scale !== undefined;
  if (address.scale) state.scale.value = address.scale;
  applySpace(address);
  state.filters.value = address.filters ?? new Map();
  restorePanels(address);
  applyClusters();
  applyColumns();
}

function applySpace({ orbit, height, sparse }: AddressState): void {
  state.heightFactor.value = height ?? 1;
  state.sizeBySparsity.value = sparse ?? false;
  state.orbit.value = orbit ? { turn: orbit[0], tilt: orbit[1], distance: orbit[2], target: [orbit[3], orbit[4], orbit[5]] } : null;
  // A view that someone framed must not rotate away.
  if (orbit) state.turning.value = false;
  state.inSpace.value = orbit !== undefined;
}

function currentOrbit(): AddressState["orbit"] {
  if (!state.spatial.value) return undefined;
  const orbit = state.orbit.value;
  return orbit && [orbit.turn, orbit.tilt, orbit.distance, ...orbit.target];
}

/** Notify the user of something in the address that this map does not have; several notices are joined. */
function reportMissing(what: string): void {
  const notice = `This map has no ${what}.`;
  const previous = state.notice.value?.startsWith("This map has no ") ? state.notice.value : "";
  if (!previous.includes(notice)) state.notice.value = `${previous} ${notice}`.trim();
}

function applyClusters(): void {
  if (!state.labels.value) return;
  const known = state.clustersByRef.value;
  state.isolated.value = new Set((pending.clusters ?? []).filter((ref) => ref === "n" || known.has(ref)));
}

function applyColumns(): void {
  // A preview has no clusters: coloured by cluster, it would be all grey.
  const { colour = state.manifest.value?.preview ? "density" : "cluster", categories = [] } = pending;
  const columns = state.index.value?.colours;
  const found = colour === BANDS && !state.hasHeights.value ? null : colourFromName(colour, columns ?? []);
  if (!columns && found === null) return;
  if (found === null) reportMissing(`column ${colour.replace(/^@/, "")} to colour by`);
  state.colour.value = found ?? "cluster";
  if (!columns) return;
  state.sizeBy.value = (pending.sizeBy && colourFromName(pending.sizeBy, columns)) ?? "";
  if (pending.sizeBy && !state.sizeColumn.value) reportMissing(`numbers ${pending.sizeBy.slice(1)} to size points by`);
  const { column } = state;
  const names = categoryNames(categoryCodes(categories, column.value), column.value);
  if (column.value && names.length) state.filters.value = withFilter(state.filters.value, keyOf(column.value), { kind: "categories", names });
  dropUnknownFilters();
}

/** Drop filters on columns that the map does not have. */
function dropUnknownFilters(): void {
  const { colours, columns } = state.index.value!;
  const unknown = [...state.filters.value].filter(([key, filter]) =>
    filter.kind === "text" ? !columns.includes(key.slice(1)) : columnOf(key, colours) === null,
  );
  if (!unknown.length) return;
  const keys = new Set(unknown.map(([key]) => key));
  state.filters.value = new Map([...state.filters.value].filter(([key]) => !keys.has(key)));
  reportMissing(`column ${[...keys].map((key) => key.replace(/^@/, "")).join(", ")} to filter by`);
}

/** Filters other than the categories of the colour column, which have their own address key, as in older links. */
function otherFilters(): Filters {
  const colourKey = state.categories.value.size ? keyOf(state.column.value!) : null;
  return new Map([...state.filters.value].filter(([key]) => key !== colourKey));
}

function currentAddress(map: MapView): AddressState {
  const { x, y, zoom } = map.camera.place;
  const { width, height } = map.camera.size();
  const { labels, index } = state;
  const factor = ({ value }: { value: number }) => (value === 1 ? undefined : value);
  return {
    view: viewMoved ? [x, y, Math.min(width, height) / 2 ** zoom] : undefined,
    theme: state.themeChosen.value ? state.theme.value : undefined,
    colour: state.colour.value === state.TAGS ? undefined : index.value ? colourName(state.colour.value, index.value.colours) : pending.colour,
    scale: state.scaleChosen.value ? state.scale.value : undefined,
    clusters: labels.value ? [...state.isolated.value] : pending.clusters,
    categories: index.value ? categoryNames(state.categories.value, state.column.value) : pending.categories,
    filters: otherFilters(),
    size: factor(state.sizeFactor),
    opacity: factor(state.opacityFactor),
    sizeBy: state.sizeColumn.value ? `@${state.sizeColumn.value.name}` : index.value ? undefined : pending.sizeBy,
    contours: state.contours.value,
    orbit: currentOrbit(),
    height: factor(state.heightFactor),
    sparse: state.sizeBySparsity.value || undefined,
    ...panelAddress(),
    pinned: state.pinned.value?.document.rowId ?? (index.value ? undefined : pending.pinned),
  };
}

/** Key of a history entry: without the view and typed text, whose changes add no entries. */
function historyKey(address: AddressState): string {
  const maskedText = Object.keys(address.kept ?? {}).map((id) => [id, "…"]);
  const orbit = address.orbit === undefined ? undefined : null;
  return writeAddress({ ...address, view: undefined, orbit, kept: Object.fromEntries(maskedText) as Record<string, string> });
}

let timer = 0;
let getMap: (() => MapView) | null = null;

function writeUrl(): void {
  if (applying || !getMap || state.playing.value) return;
  const address = currentAddress(getMap());
  const hash = writeAddress(address) || location.pathname + location.search;
  const key = historyKey(address);
  if (key === lastKey) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  lastKey = key;
}

function scheduleWrite(): void {
  clearTimeout(timer);
  timer = window.setTimeout(writeUrl, WRITE_DELAY_MS);
}

/** Run `work` as part of applying an address: its state changes add no history entry. */
export async function withoutHistoryStep(map: () => MapView, work: () => Promise<void>): Promise<void> {
  applying += 1;
  try {
    await work();
  } finally {
    applying -= 1;
    lastKey = historyKey(currentAddress(map()));
    scheduleWrite();
  }
}

/** The map was moved by the user, or by anything but an address. */
export function viewChanged(): void {
  viewMoved = true;
  scheduleWrite();
}

/** Keep the address in sync with the page. `home` shows the initial view. */
export function syncAddress(map: () => MapView, home: () => void): void {
  getMap = map;
  effect(() => {
    const column = state.column.value;
    if (column && column.kind !== "categories" && !state.scaleChosen.value) state.scale.value = betterScale(column);
  });
  effect(() => {
    if (state.published.labels.value) untracked(applyClusters);
  });
  effect(() => {
    if (state.index.value) untracked(applyColumns);
  });
  effect(() => {
    void [state.theme.value, state.themeChosen.value, state.colour.value, state.scale.value, state.scaleChosen.value];
    void [state.isolated.value, state.filters.value, state.pinned.value, state.index.value];
    void [state.sizeFactor.value, state.opacityFactor.value, state.sizeBy.value, state.contours.value, panelAddress()];
    void [state.playing.value, state.spatial.value, state.orbit.value, state.heightFactor.value, state.sizeBySparsity.value];
    scheduleWrite();
  });
  dark.addEventListener("change", () => {
    if (!state.themeChosen.value) state.theme.value = systemTheme();
  });
  addEventListener("popstate", () => {
    clearTimeout(timer);
    const address = readAddress(location.hash);
    const { view, pinned } = address;
    void withoutHistoryStep(map, async () => {
      applyAddress(address);
      if (view) map().camera.show(view);
      else home();
      if (pinned === undefined) state.pinned.value = null;
      else if (pinned !== state.pinned.value?.document.rowId) await map().pointing.pinRow(pinned, !view);
    });
  });
}
