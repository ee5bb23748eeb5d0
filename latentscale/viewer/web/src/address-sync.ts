/** The page's address and its state, each following the other: Back and Forward, and addresses that are typed. */

import { effect, untracked } from "@preact/signals";
import { readAddress, writeAddress, type AddressState } from "./engine/address";
import { BANDS } from "./engine/density-bands";
import { categoriesOf, categoryNames, colourName, colourOf } from "./engine/column-names";
import { columnOf, keyOf, withFilter, type Filters } from "./engine/filters";
import { betterScale } from "./engine/scale";
import type { MapView } from "./map/map-view";
import * as state from "./state";
import { panelAddress, restorePanels } from "./ui/panel-registry";

/** Milliseconds after a change, in which more of it may come. */
const WRITE_AFTER = 250;
const dark = matchMedia("(prefers-color-scheme: dark)");

/** What an address asks for that is not known yet: names of columns before the index is here, clusters before the labels. */
let waiting: AddressState = {};
/** The steps of the address as it was last written. */
let last = "";
let moved = false;
/** While an address is followed, nothing is written. */
let following = 0;

const systemTheme = () => (dark.matches ? "dark" : "light");

/** Everything of an address that needs no file. */
export function follow(address: AddressState): void {
  waiting = address;
  moved = address.view !== undefined;
  state.theme.value = address.theme ?? systemTheme();
  state.themeChosen.value = address.theme !== undefined;
  state.sizeFactor.value = address.size ?? 1;
  state.opacityFactor.value = address.opacity ?? 1;
  state.contours.value = address.contours ?? false;
  state.scaleChosen.value = address.scale !== undefined;
  if (address.scale) state.scale.value = address.scale;
  followSpace(address);
  state.filters.value = address.filters ?? new Map();
  restorePanels(address);
  findClusters();
  findColumns();
}

function followSpace({ orbit, height, sparse }: AddressState): void {
  state.heightFactor.value = height ?? 1;
  state.sizeBySparsity.value = sparse ?? false;
  state.orbit.value = orbit ? { turn: orbit[0], tilt: orbit[1], distance: orbit[2], target: [orbit[3], orbit[4], orbit[5]] } : null;
  // What somebody has aimed at stays where it is.
  if (orbit) state.turning.value = false;
  state.inSpace.value = orbit !== undefined;
}

function orbitNow(): AddressState["orbit"] {
  if (!state.spatial.value) return undefined;
  const orbit = state.orbit.value;
  return orbit && [orbit.turn, orbit.tilt, orbit.distance, ...orbit.target];
}

/** Say what an address asks for and the map has not, beside what else it asks for in vain. */
function lacks(what: string): void {
  const said = `This map has no ${what}.`;
  const before = state.notice.value?.startsWith("This map has no ") ? state.notice.value : "";
  if (!before.includes(said)) state.notice.value = `${before} ${said}`.trim();
}

function findClusters(): void {
  if (!state.labels.value) return;
  const known = state.byRef.value;
  state.isolated.value = new Set((waiting.clusters ?? []).filter((ref) => ref === "n" || known.has(ref)));
}

function findColumns(): void {
  // A map without clusters would be grey.
  const { colour = state.manifest.value?.preview ? "density" : "cluster", categories = [] } = waiting;
  const columns = state.index.value?.colours;
  const found = colour === BANDS && !state.hasHeights.value ? null : colourOf(colour, columns ?? []);
  if (!columns && found === null) return;
  if (found === null) lacks(`column ${colour.replace(/^@/, "")} to colour by`);
  state.colour.value = found ?? "cluster";
  if (!columns) return;
  state.sizeBy.value = (waiting.sizeBy && colourOf(waiting.sizeBy, columns)) ?? "";
  if (waiting.sizeBy && !state.sizeColumn.value) lacks(`numbers ${waiting.sizeBy.slice(1)} to size points by`);
  const { column } = state;
  const names = categoryNames(categoriesOf(categories, column.value), column.value);
  if (column.value && names.length) state.filters.value = withFilter(state.filters.value, keyOf(column.value), { kind: "categories", names });
  findFilters();
}

/** Let go of filters on columns that the map does not have. */
function findFilters(): void {
  const { colours, columns } = state.index.value!;
  const unknown = [...state.filters.value].filter(([key, filter]) =>
    filter.kind === "text" ? !columns.includes(key.slice(1)) : columnOf(key, colours) === null,
  );
  if (!unknown.length) return;
  const keys = new Set(unknown.map(([key]) => key));
  state.filters.value = new Map([...state.filters.value].filter(([key]) => !keys.has(key)));
  lacks(`column ${[...keys].map((key) => key.replace(/^@/, "")).join(", ")} to filter by`);
}

/** Categories of the colour column have a part of the address of their own: links of older pages have it. */
function filtersBeside(): Filters {
  const own = state.categories.value.size ? keyOf(state.column.value!) : null;
  return new Map([...state.filters.value].filter(([key]) => key !== own));
}

function current(map: MapView): AddressState {
  const { x, y, zoom } = map.camera.place;
  const { width, height } = map.camera.size();
  const { labels, index } = state;
  const factor = ({ value }: { value: number }) => (value === 1 ? undefined : value);
  return {
    view: moved ? [x, y, Math.min(width, height) / 2 ** zoom] : undefined,
    theme: state.themeChosen.value ? state.theme.value : undefined,
    colour: state.colour.value === state.TAGS ? undefined : index.value ? colourName(state.colour.value, index.value.colours) : waiting.colour,
    scale: state.scaleChosen.value ? state.scale.value : undefined,
    clusters: labels.value ? [...state.isolated.value] : waiting.clusters,
    categories: index.value ? categoryNames(state.categories.value, state.column.value) : waiting.categories,
    filters: filtersBeside(),
    size: factor(state.sizeFactor),
    opacity: factor(state.opacityFactor),
    sizeBy: state.sizeColumn.value ? `@${state.sizeColumn.value.name}` : index.value ? undefined : waiting.sizeBy,
    contours: state.contours.value,
    orbit: orbitNow(),
    height: factor(state.heightFactor),
    sparse: state.sizeBySparsity.value || undefined,
    ...panelAddress(),
    pinned: state.pinned.value?.document.rowId ?? (index.value ? undefined : waiting.pinned),
  };
}

/** What is a step for Back: not the view, nor each letter that is typed. */
function steps(address: AddressState): string {
  const typed = Object.keys(address.kept ?? {}).map((id) => [id, "…"]);
  const orbit = address.orbit === undefined ? undefined : null;
  return writeAddress({ ...address, view: undefined, orbit, kept: Object.fromEntries(typed) as Record<string, string> });
}

let timer = 0;
let shown: (() => MapView) | null = null;

function write(): void {
  if (following || !shown || state.playing.value) return;
  const address = current(shown());
  const hash = writeAddress(address) || location.pathname + location.search;
  const key = steps(address);
  if (key === last) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  last = key;
}

function later(): void {
  clearTimeout(timer);
  timer = window.setTimeout(write, WRITE_AFTER);
}

/** What the page does until `work` ends is what an address asked for: no step for Back. */
export async function whileFollowing(map: () => MapView, work: () => Promise<void>): Promise<void> {
  following += 1;
  try {
    await work();
  } finally {
    following -= 1;
    last = steps(current(map()));
    later();
  }
}

/** The user, or something else than an address, moved the map. */
export function viewChanged(): void {
  moved = true;
  later();
}

/** Keep the address in step with the page. `home` shows the first view. */
export function keepAddress(map: () => MapView, home: () => void): void {
  shown = map;
  effect(() => {
    const column = state.column.value;
    if (column && column.kind !== "categories" && !state.scaleChosen.value) state.scale.value = betterScale(column);
  });
  effect(() => {
    if (state.published.labels.value) untracked(findClusters);
  });
  effect(() => {
    if (state.index.value) untracked(findColumns);
  });
  effect(() => {
    void [state.theme.value, state.themeChosen.value, state.colour.value, state.scale.value, state.scaleChosen.value];
    void [state.isolated.value, state.filters.value, state.pinned.value, state.index.value];
    void [state.sizeFactor.value, state.opacityFactor.value, state.sizeBy.value, state.contours.value, panelAddress()];
    void [state.playing.value, state.spatial.value, state.orbit.value, state.heightFactor.value, state.sizeBySparsity.value];
    later();
  });
  dark.addEventListener("change", () => {
    if (!state.themeChosen.value) state.theme.value = systemTheme();
  });
  addEventListener("popstate", () => {
    clearTimeout(timer);
    const address = readAddress(location.hash);
    const { view, pinned } = address;
    void whileFollowing(map, async () => {
      follow(address);
      if (view) map().camera.show(view);
      else home();
      if (pinned === undefined) state.pinned.value = null;
      else if (pinned !== state.pinned.value?.document.rowId) await map().pointing.pinRow(pinned, !view);
    });
  });
}
