/** Palettes of the point colours, and the palette index of each point. */

import { BAND_NAMES, bandColour, bandOf, BANDS, BANDS_COLUMN } from "../engine/density-bands";
import {
  addedColour,
  categoryColour,
  clusterColour,
  clusterPalette,
  emptyPalette,
  NOISE,
  NULL_COLOUR,
  rampColour,
  setColour,
  type Palette,
  type Rgb,
  type Theme,
} from "../engine/colour";
import type { CategoryColumn } from "../engine/format";
import type { LoadedTile } from "../engine/generation";
import { ADDED, OTHER, type Source } from "../engine/merge";
import { NO_VALUE, RAMP, shadeIndex } from "../engine/scale";
import { maskOf } from "../engine/selection";
import * as state from "../state";

/** Maximum number of cached tile columns, and how many are evicted at once. */
const MAX_CACHED = 600;
const EVICTED = 200;

/** Whether points have their cluster's hue; otherwise a hue does not identify a cluster. */
export const hasHues = (): boolean => /^(cluster|layer:|nearest)/.test(state.colour.value);

export class Shading {
  /** Colour of each cluster; alpha 0 means dimmed. */
  clusters: Palette = emptyPalette(2);
  /** Palette of the colour column; null when colouring by cluster. */
  shades: Palette | null = null;
  /** Version of the points' palette indices. */
  key = "";
  /** Version: incremented when a tile column has arrived or failed. */
  revision = 0;
  private turn = 0;
  private readonly columns = new Map<string, Float32Array | "loading" | "missing">();
  private readonly arrays = new WeakMap<LoadedTile, { key: string; values: Uint16Array }>();

  constructor(
    private readonly changed: () => void,
    private readonly problem: (error: Error) => void,
  ) {}

  /** Recompute the palettes. Reads signals, so that an enclosing effect reruns when they change. */
  update(): void {
    const theme = state.theme.value;
    const clusters: readonly state.Hue[] = state.labels.value?.clusters ?? state.hues.value;
    const colour = state.colour.value;
    const shown = state.shownClusters.value;
    const layer = /^layer:(\d+)$/.exec(colour);
    const isShown = (id: number) => !shown || shown.has(id);
    const colourOf = (cluster: state.Hue) => {
      const entry = layer && state.clustersByRef.value.get(`0.${cluster.id}`);
      const at = entry ? state.ancestor(entry, Number(layer[1])) : cluster;
      return clusterColour(at.hue, at.shade, theme);
    };
    const nearest = colour === "nearest_cluster";
    const column = state.column.value;
    this.clusters = clusterPalette(clusters, colourOf, NOISE[theme], nearest ? () => true : isShown);
    this.shades = null;
    this.key = "";
    if (nearest) {
      this.shades = clusterPalette(clusters, colourOf, NOISE[theme], isShown);
      this.key = colour;
    } else if (colour === BANDS) {
      this.shades = bandPalette(theme);
      this.key = colour;
    } else if (colour === state.TAGS && column) {
      this.shades = codePalette(column as CategoryColumn);
      this.key = `${colour} ${(this.turn += 1)}`;
    } else if (colour === "density" || column) {
      this.shades = column?.kind === "categories" ? codePalette(column) : rampPalette();
      this.key = column && column.kind !== "categories" ? `${colour} ${state.scale.value}` : colour;
    }
    this.changed();
  }

  /** Request the colour column of tiles that lack it. */
  fetch(tiles: readonly LoadedTile[]): void {
    if (!this.shades) return;
    for (const tile of tiles) {
      const source = sourceOf(tile);
      if (!source) continue;
      const name = nameOf(tile, source);
      if (this.columns.has(name)) continue;
      this.columns.set(name, "loading");
      tile.generation
        .column(tile.info, source.id)
        .then((values) => this.columns.set(name, values))
        .catch((error: Error) => {
          this.columns.set(name, "missing");
          this.problem(error);
        })
        .finally(() => {
          this.revision += 1;
          this.changed();
        });
    }
    if (this.columns.size > MAX_CACHED) for (const name of [...this.columns.keys()].slice(0, EVICTED)) this.columns.delete(name);
  }

  /**
   * Whether a colour column of these tiles is loading, and the number of documents that are grey since theirs failed.
   */
  progress(tiles: readonly LoadedTile[]): { reading: boolean; grey: number } {
    let reading = false;
    let grey = 0;
    for (const tile of this.shades ? tiles : []) {
      const source = sourceOf(tile);
      const found = source && this.columns.get(nameOf(tile, source));
      if (found === "loading") reading = true;
      if (found === "missing") grey += tile.count - tile.removed;
    }
    return { reading, grey };
  }

  /** Allow failed columns to be requested again. */
  retry(): void {
    for (const [name, found] of this.columns) if (found === "missing") this.columns.delete(name);
  }

  /** Palette indices of a tile's points; null while its column is loading. */
  of(tile: LoadedTile): Uint16Array | null {
    const cached = this.arrays.get(tile);
    if (cached?.key === this.key) return cached.values;
    const column = state.colour.value;
    const shades = new Uint16Array(tile.count);
    const source = sourceOf(tile);
    if (!source) {
      // No column to fetch: uniform over a generation, or from tags.
      shades.fill(column === ADDED ? tile.generation.number : NO_VALUE);
      if (column === state.TAGS)
        state.tagged.value.forEach(({ documents }, code) => {
          const mask = maskOf(documents.get(tile.generation.number), tile.info.first, tile.count);
          for (let i = 0; i < tile.count; i++) if (mask[i]) shades[i] = Math.min(code, OTHER);
        });
      this.arrays.set(tile, { key: this.key, values: shades });
      return shades;
    }
    const values = this.columns.get(nameOf(tile, source));
    if (!(values instanceof Float32Array)) return null;
    const entry = state.column.value;
    if (source.codes) for (let i = 0; i < tile.count; i++) shades[i] = source.codes[values[i]];
    else if (column === "nearest_cluster") for (let i = 0; i < tile.count; i++) shades[i] = values[i] + 1;
    else if (entry && entry.kind !== "categories")
      for (let i = 0; i < tile.count; i++) shades[i] = shadeIndex(values[i], entry, state.scale.value);
    else if (column === BANDS) for (let i = 0; i < tile.count; i++) shades[i] = bandOf(values[i]);
    else for (let i = 0; i < tile.count; i++) shades[i] = Math.min(values[i], column === "density" ? RAMP - 1 : 255);
    this.arrays.set(tile, { key: this.key, values: shades });
    return shades;
  }

  /** Whether a point is visible, and so can be picked. */
  shows(tile: LoadedTile, i: number): boolean {
    if (tile.cluster[i] < -1) return false;
    if (state.labels.value && !this.clusters.data[4 * (tile.cluster[i] + 1) + 3]) return false;
    if (!this.shades) return true;
    const cached = this.arrays.get(tile);
    // Until its column is loaded a point is grey, and can be picked.
    return cached?.key !== this.key || this.shades.data[4 * cached.values[i] + 3] > 0;
  }
}

/** Source of the colour column in a tile's generation; null if there is none to read. */
function sourceOf(tile: LoadedTile): Source | null {
  const column = state.colour.value;
  if (column === ADDED || column === state.TAGS) return null;
  const sources = state.index.value?.sources.get(column);
  return sources ? sources[tile.generation.number] : { id: column === BANDS ? BANDS_COLUMN : column, codes: null };
}

const nameOf = (tile: LoadedTile, source: Source): string => `${tile.generation.number}/${source.id}/${tile.info.key}`;

/** Colour of a category code, including all other values and no value. */
export function categoryCodeColour(column: CategoryColumn, code: number, theme: Theme): Rgb {
  if (column.id === ADDED) return addedColour(code, column.categories.length, theme);
  if (code === NO_VALUE) return NULL_COLOUR[theme];
  return code >= OTHER ? NOISE[theme] : categoryColour(code, theme);
}

function codePalette(column: CategoryColumn): Palette {
  const palette = emptyPalette(256);
  for (let code = 0; code < 256; code++)
    setColour(palette, code, categoryCodeColour(column, code, state.theme.value), 255);
  return palette;
}

function bandPalette(theme: Theme): Palette {
  const palette = emptyPalette(256);
  BAND_NAMES.forEach((_, band) => setColour(palette, band, bandColour(band, theme), 255));
  return palette;
}

function rampPalette(): Palette {
  const theme = state.theme.value;
  const palette = emptyPalette(256);
  for (let i = 0; i < RAMP; i++) setColour(palette, i, rampColour(i / (RAMP - 1), theme), 255);
  setColour(palette, NO_VALUE, NULL_COLOUR[theme], 255);
  return palette;
}
