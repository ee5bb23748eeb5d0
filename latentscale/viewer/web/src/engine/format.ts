/** Types of the viewer's files (docs/viewer-format.md). */

export const SCHEMA = 1;

export interface GenerationEntry {
  schema: number;
  url: string;
  name?: string;
  documents: number;
  noise: number;
  layers: number[];
  origin: [number, number];
  side: number;
  /** Bounding box of all points: x0, y0, x1, y1. */
  extent: [number, number, number, number];
  /** Box of the initial view, without outliers. */
  view: [number, number, number, number];
  /** Range of z of a 3-D map, whose tiles have the columns `z` and `density_3d`. */
  z?: [low: number, high: number];
  tiles: number;
  packs: number;
  page_levels: number;
  /** Additional bits per axis by which `cols/fine/` refines positions of the root tile; one fewer per level. */
  fine?: number;
  root: [count: number, bytes: number, children: number];
  /** A generation of one tile that includes its colour columns; its page is in `index.json`. */
  inline?: boolean;
  /** Whether `hues.json` has the colours of the finest clusters, to be read before the large label files. */
  hues?: boolean;
  /** Cells per edge of `density.parquet`, which maps have that are usually drawn as a sample. */
  raster?: number;
  /** When its documents were added, as free text by the publisher. */
  added?: string;
  /** Name of the corpus whose documents were projected onto the map without becoming part of it. */
  placed?: string;
  /** Documents that later generations removed. */
  removed?: { url: string; count: number; noise?: number };
}

export interface Manifest {
  schema: number;
  title: string;
  /** Folder of the label files, if not in the last generation. */
  labels?: string;
  /** Provenance to display: names and values. */
  about?: [name: string, value: string][];
  /** The column of image URLs, and the origins besides the page's own that may serve them. */
  images?: { column: string; origins: string[] };
  /** Set on a preview of a layout that is still being computed and has no clusters. */
  preview?: Preview;
  generations: GenerationEntry[];
}

export interface Preview {
  /** A description of the current state. */
  said: string;
  /** Unix time in seconds at which it was written. */
  written: number;
  /** Seconds until the next state is expected. */
  due: number;
}

export interface ClusterEntry {
  id: number;
  layer: number;
  label: string;
  parent: number | null;
  x: number | null;
  y: number | null;
  z?: number | null;
  size: number;
  nearest: number;
  hue: number;
  shade: number;
  px: number;
  zoom: [number, number] | null;
  /** Whether its label was hidden by hand. */
  hidden?: boolean;
  /** Its generated name, if it was renamed by hand. */
  found?: string;
  /** Whether this reader edited it; not part of any file. */
  edited?: boolean;
}

export interface LabelsFile {
  layers: number;
  hue_layer: number;
  clusters: ClusterEntry[];
}

/** Colours of the clusters of layer 0, as parallel arrays. */
export interface HuesFile {
  id: number[];
  hue: number[];
  shade: number[];
}

export interface ClusterDetail {
  source: string | null;
  keyphrases: string[];
  exemplars: number[];
  hull: number[];
  /** A one-sentence description, if a language model named the cluster. */
  description?: string;
  columns?: ValueShare[];
  numbers?: NumberShift[];
  /** Its most similar cluster of the same layer, and the nearest of that cluster's exemplars. */
  sibling?: number;
  contrast?: number[];
}

/** A value over-represented in a cluster; the lift with its 95 % interval. */
export type ValueShare = [column: string, value: string, share: number, elsewhere: number, lift: number, low: number, high: number];

/**
 * A numeric column that differs in a cluster; `above` is the probability that a random document of it has a larger
 * value than one elsewhere, with its 95 % interval.
 */
export type NumberShift = [column: string, median: string, elsewhere: string, above: number, low: number, high: number];

export interface CategoryColumn {
  id: string;
  name: string;
  kind: "categories";
  categories: [name: string, count: number][];
  other: [distinct: number, count: number];
  nulls: number;
}

export interface NumberColumn {
  id: string;
  name: string;
  kind: "numbers" | "dates";
  min: number;
  max: number;
  quantiles: number[];
  nulls: number;
}

export type ColourColumn = CategoryColumn | NumberColumn;

export interface SectionEntry {
  version: number;
  [key: string]: unknown;
}

/** The section `quality`: `MapQuality` in `latentscale/viewer/quality.py` is the same. Shares are from 0 to 1. */
export interface Quality {
  map: string;
  /** The documents measured; of an updated map, those of its fit. */
  documents: number;
  clusters: number;
  /** Neighbours per document that trustworthiness and preservation compare, and the sample size. */
  k: number;
  sample: number;
  trustworthiness: number | null;
  preservation: number | null;
  recall: number | null;
  noise_share: number;
  duplicates: number;
  outlier_rate: number;
  components: number;
  largest_component: number;
  stability: number | null;
  against: { column: string; nmi: number; ari: number; purity: number } | null;
  red_flags: string[];
  /** The same for the 3-D layout; the figures above are for the flat map. */
  space?: { trustworthiness: number | null; preservation: number | null } | null;
  /** Changes of an updated map since its fit. */
  growth: { fitted: number; added: number; removed: number; refit_due: boolean; reasons: string[] } | null;
}

export interface IndexFile {
  text: string | null;
  columns: string[];
  colours: ColourColumn[];
  pages: [name: string, first: number][];
  /** The page of an inline generation. */
  page?: PageFile;
  ids: { rows: number; first: number[]; last?: number };
  /** Data of optional features by name; read by `section`. */
  sections?: Record<string, SectionEntry>;
}

export interface PageFile {
  tiles: [z: number, x: number, y: number, first: number, count: number, children: number, bytes: number, below?: number][];
  packs: [index: number, first: number, bytes: number, footer: number][];
}

/** Counts to subtract for removed documents: noise, and by column id and code (255: no value). */
export interface RemovedCounts {
  noise: number;
  columns: Record<string, Record<string, number>>;
}

/** An error whose message is shown to the user and says what to do. */
export class ViewerError extends Error {}

/** Check an untrusted manifest. Throws ViewerError if it is none, or of another schema version. */
export function checkManifest(value: unknown): Manifest {
  const manifest = value as Manifest;
  if (!manifest || typeof manifest !== "object" || !Array.isArray(manifest.generations) || !manifest.generations.length)
    throw new ViewerError("manifest.json does not describe a map.");
  if (manifest.schema !== SCHEMA)
    throw new ViewerError(
      `This map is of format ${String(manifest.schema)} and the page reads format ${SCHEMA}: publish the map again.`,
    );
  return manifest;
}
