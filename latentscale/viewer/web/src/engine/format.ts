/** The files of the viewer as they are on disk (docs/viewer-format.md). */

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
  /** Box of all points. */
  extent: [number, number, number, number];
  /** Box of the map's body: the first view. */
  view: [number, number, number, number];
  /** Lowest and highest z of a map of three dimensions; then tiles have the columns `z` and `density_3d`. */
  z?: [low: number, high: number];
  tiles: number;
  packs: number;
  page_levels: number;
  /** By how many halvings of a step `cols/fine/` says more closely where points of the root tile lie; one less a level. */
  fine?: number;
  root: [count: number, bytes: number, children: number];
  /** One tile that holds its colour columns too; its page is in `index.json`. */
  inline?: boolean;
  /** Whether it has so many clusters that `hues.json` has the colours of the finest, and comes before them. */
  hues?: boolean;
  /** Cells along an edge of `density.parquet`, where there are so many documents that most pages draw a sample of them. */
  raster?: number;
  /** When its documents joined the map, in the words of who published it. */
  added?: string;
  /** The corpus of documents that were placed on the map without becoming part of it. */
  placed?: string;
  /** Documents of it that are not on the map any more. */
  removed?: { url: string; count: number; noise?: number };
}

export interface Manifest {
  schema: number;
  title: string;
  /** Folder of the labels, where they are not those of the last generation. */
  labels?: string;
  /** How the map was made: names and values. */
  about?: [name: string, value: string][];
  /** A column of addresses of images, and where these may come from beside the page's own origin. */
  images?: { column: string; origins: string[] };
  /** Of a map that is still being laid out, and has no clusters yet. */
  preview?: Preview;
  generations: GenerationEntry[];
}

export interface Preview {
  /** What is shown, in sentences. */
  said: string;
  /** When it was written, in seconds since 1970. */
  written: number;
  /** After how many seconds from then the next state is expected. */
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
  /** Whether its label is drawn nowhere, since somebody wanted it so. */
  hidden?: boolean;
  /** The name that was found, where it has another one by hand. */
  found?: string;
  /** Whether the reader of the page has edited it: this is in no file. */
  edited?: boolean;
}

export interface LabelsFile {
  layers: number;
  hue_layer: number;
  clusters: ClusterEntry[];
}

/** Of each cluster of layer 0. */
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
  /** A sentence on what the cluster holds, where a language model named it. */
  description?: string;
  columns?: ValueShare[];
  numbers?: NumberShift[];
  /** The cluster of its layer that is most like it, and those of that one's exemplars that are nearest. */
  sibling?: number;
  contrast?: number[];
}

/** A value that is more common in a cluster than elsewhere; the lift with its interval of 95 %. */
export type ValueShare = [column: string, value: string, share: number, elsewhere: number, lift: number, low: number, high: number];

/** Numbers that are larger or smaller than elsewhere; the probability that a document from here has the larger one. */
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
  /** What was measured; of an updated map, its fit. */
  documents: number;
  clusters: number;
  /** Neighbours that the first two shares compare, of so many documents. */
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
  /** Of an updated map: what changed since its fit. */
  /** Of a map of three dimensions, with its heights; the figures above are of the flat one. */
  space?: { trustworthiness: number | null; preservation: number | null } | null;
  growth: { fitted: number; added: number; removed: number; refit_due: boolean; reasons: string[] } | null;
}

export interface IndexFile {
  text: string | null;
  columns: string[];
  colours: ColourColumn[];
  pages: [name: string, first: number][];
  /** The one page of an inline generation. */
  page?: PageFile;
  ids: { rows: number; first: number[]; last?: number };
  /** What features of the page have here, by name: read by `section`. */
  sections?: Record<string, SectionEntry>;
}

export interface PageFile {
  tiles: [z: number, x: number, y: number, first: number, count: number, children: number, bytes: number, below?: number][];
  packs: [index: number, first: number, bytes: number, footer: number][];
}

/** What documents that are not on the map any more counted for: by column id, how many had each code, 255 no value. */
export interface RemovedCounts {
  noise: number;
  columns: Record<string, Record<string, number>>;
}

/** Raised with a sentence that the user can act on. */
export class ViewerError extends Error {}

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
