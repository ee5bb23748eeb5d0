/** Serialisation of the page's state in the URL fragment, so that a shared link restores it. */

import { readFilter, writeFilter, type Filters } from "./filters";

export interface AddressState {
  /** Centre of the view, and the map units that the window's shorter side spans. */
  view?: [x: number, y: number, span: number];
  theme?: "dark" | "light";
  /** `cluster`, `layer:1`…, `nearest_cluster`, `density`, `added`, or the name of a column after `@`. */
  colour?: string;
  scale?: "linear" | "quantile";
  /** Isolated clusters as `layer.id`, `n` for noise. */
  clusters?: string[];
  /** Selected categories of the colour column: `@` and the name, or the code of those without one. */
  categories?: string[];
  /** Filters on other columns, and filters of another kind on the colour column. */
  filters?: Filters;
  /** Factors of point size and opacity. */
  size?: number;
  opacity?: number;
  /** `@` and the name of the numeric column that point size encodes. */
  sizeBy?: string;
  pinned?: number;
  /** The 3-D view: turn and tilt in degrees, distance, target; null for the initial one. */
  orbit?: [turn: number, tilt: number, distance: number, x: number, y: number, z: number] | null;
  /** Height factor, and whether points in sparse regions of space are larger. */
  height?: number;
  sparse?: boolean;
  /** Whether density contours are drawn. */
  contours?: boolean;
  /** Panels whose open state differs from the initial one; those that were closed are prefixed with `-`. */
  panels?: string[];
  /** State of single panels, by panel id. */
  kept?: Record<string, string>;
}

/** The fragment of a state, with `#`; empty for the initial state. */
export function writeAddress(state: AddressState): string {
  const parts: string[] = [];
  if (state.view) parts.push(`v=${[...rounded(state.view.slice(0, 2), state.view[2]), Number(state.view[2].toPrecision(7))].join(",")}`);
  if (state.theme) parts.push(`t=${state.theme}`);
  if (state.colour && state.colour !== "cluster") parts.push(`c=${encodeURIComponent(state.colour)}`);
  if (state.scale) parts.push(`s=${state.scale}`);
  if (state.clusters?.length) parts.push(`i=${state.clusters.join(",")}`);
  if (state.categories?.length) parts.push(`k=${state.categories.map(encodeURIComponent).join(",")}`);
  for (const [key, filter] of state.filters ?? []) parts.push(`f.${encodeURIComponent(key)}=${writeFilter(filter)}`);
  if (state.size !== undefined) parts.push(`z=${state.size}`);
  if (state.opacity !== undefined) parts.push(`a=${state.opacity}`);
  if (state.sizeBy) parts.push(`w=${encodeURIComponent(state.sizeBy)}`);
  if (state.orbit !== undefined) parts.push(`d=${state.orbit ? orbitText(state.orbit) : "3"}`);
  if (state.height !== undefined) parts.push(`h=${state.height}`);
  if (state.sparse) parts.push("e=1");
  if (state.contours) parts.push("g=1");
  if (state.panels?.length) parts.push(`o=${state.panels.join(",")}`);
  for (const [id, text] of Object.entries(state.kept ?? {})) parts.push(`x.${id}=${encodeURIComponent(text)}`);
  if (state.pinned !== undefined) parts.push(`p=${state.pinned}`);
  return parts.length ? `#${parts.join("&")}` : "";
}

function orbitText([turn, tilt, distance, ...target]: NonNullable<AddressState["orbit"]>): string {
  return [...[turn, tilt, distance].map((v) => Number(v.toPrecision(5))), ...rounded(target, distance)].join(",");
}

/** Rounded to a small fraction of a pixel in a view that spans `span` map units. */
const rounded = (values: readonly number[], span: number): number[] =>
  values.map((v) => Number(v.toFixed(Math.min(20, Math.max(0, Math.ceil(5 - Math.log10(span)))))));

/** Parse a fragment. Invalid parts are ignored: addresses are edited by hand. */
export function readAddress(hash: string): AddressState {
  const state: AddressState = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at < 0) continue;
    const key = part.slice(0, at);
    let value: string;
    try {
      value = decodeURIComponent(part.slice(at + 1));
      if (key.startsWith("f.")) {
        const [name, filter] = [decodeURIComponent(key.slice(2)), readFilter(part.slice(at + 1))];
        if (filter && /^(added|@[^]{1,200})$/.test(name)) state.filters = new Map(state.filters).set(name, filter);
        continue;
      }
    } catch {
      continue;
    }
    // Category names may contain encoded commas: split before decoding.
    const items = (key === "k" ? part.slice(at + 1).split(",").map(decodeURIComponent) : value.split(",")).filter(Boolean);
    if (key === "v") {
      const [x, y, span] = items.map(Number);
      if (items.length === 3 && [x, y, span].every(Number.isFinite) && span > 0) state.view = [x, y, span];
    } else if (key === "t" && (value === "dark" || value === "light")) state.theme = value;
    else if (key === "c" && /^([a-z_]+(:?\d+)?|@[^]{1,200})$/.test(value)) state.colour = value;
    else if (key === "w" && /^@[^]{1,200}$/.test(value)) state.sizeBy = value;
    else if (key === "s" && (value === "linear" || value === "quantile")) state.scale = value;
    else if (key === "i") state.clusters = items.filter((item) => /^(\d+\.\d+|n)$/.test(item));
    else if (key === "k") state.categories = items.filter((item) => item.startsWith("@") || (/^\d{1,3}$/.test(item) && Number(item) <= 255));
    else if (key === "z" || key === "a") {
      const factor = Number(value);
      if (factor > 0 && factor <= 3) state[key === "z" ? "size" : "opacity"] = factor;
    } else if (key === "o") state.panels = items.filter((item) => /^-?[a-z][a-z0-9-]*$/.test(item));
    else if (/^x\.[a-z][a-z0-9-]*$/.test(key)) state.kept = { ...state.kept, [key.slice(2)]: value };
    else if (key === "d") {
      const numbers = items.map(Number);
      if (value === "3") state.orbit = null;
      else if (items.length === 6 && numbers.every(Number.isFinite) && numbers[2] > 0 && numbers[1] >= 0 && numbers[1] <= 90)
        state.orbit = numbers as NonNullable<AddressState["orbit"]>;
    } else if (key === "h" && Number(value) > 0 && Number(value) <= 4) state.height = Number(value);
    else if (key === "e") state.sparse = value === "1";
    else if (key === "g") state.contours = value === "1";
    else if (key === "p" && /^-?\d+$/.test(value)) state.pinned = Number(value);
  }
  return state;
}
