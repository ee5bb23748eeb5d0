/**
 * Decodes Parquet to typed arrays and rows, with hyparquet and a single codec in plain JavaScript: the content security
 * policy allows no WebAssembly.
 */

import { decompress } from "fzstd";
import { parquetMetadata, parquetMetadataAsync, parquetRead, type AsyncBuffer, type FileMetaData } from "hyparquet";
import { ViewerError, type RemovedCounts } from "./format";
import { evenBits, STEPS } from "./positions";

/** Limit of uncompressed page sizes: a damaged file must not allocate gigabytes. */
const MAX_PAGE = 64 << 20;
const compressors = {
  ZSTD: (input: Uint8Array, outputLength: number): Uint8Array => {
    if (outputLength > MAX_PAGE) throw new Error(`a page of ${outputLength} bytes is too large`);
    return decompress(input, new Uint8Array(outputLength));
  },
};

export interface TilePoints {
  count: number;
  /** x0, y0, x1, y1, … within the tile, in units of 1 / `steps` of its edge. */
  xy: Uint16Array | Uint32Array;
  steps: number;
  cluster: Int32Array;
}

async function readColumnsInto(bytes: ArrayBuffer, count: number, into: Record<string, { set(i: number, v: number): void }>) {
  const file: AsyncBuffer = { byteLength: bytes.byteLength, slice: (start, end) => bytes.slice(start, end) };
  const metadata = parquetMetadata(bytes);
  const existing = new Set(metadata.schema.map((element) => element.name));
  await parquetRead({
    file,
    metadata,
    compressors,
    columns: Object.keys(into).filter((name) => existing.has(name)),
    onChunk: ({ columnName, columnData, rowStart }) => {
      const sink = into[columnName];
      if (!sink) return;
      const end = Math.min(columnData.length, count - rowStart);
      const data = columnData as ArrayLike<number | null>;
      for (let i = 0; i < end; i++) sink.set(rowStart + i, data[i] === null ? NaN : Number(data[i]));
    },
  });
}

/** Decode positions and clusters of a tile of `count` points. */
export async function decodeTile(bytes: ArrayBuffer, count: number): Promise<TilePoints> {
  const xy = new Uint16Array(2 * count);
  const cluster = new Int32Array(count);
  await readColumnsInto(bytes, count, {
    place: {
      set: (i, v) => {
        xy[2 * i] = evenBits(v);
        xy[2 * i + 1] = evenBits(v >>> 1);
      },
    },
    // Maps of the first format store x and y separately.
    x: { set: (i, v) => void (xy[2 * i] = v) },
    y: { set: (i, v) => void (xy[2 * i + 1] = v) },
    cluster: { set: (i, v) => void (cluster[i] = v) },
  });
  return { count, xy, steps: STEPS, cluster };
}

/** Decode the column `value` of a file; missing values are NaN. */
export async function decodeColumn(bytes: ArrayBuffer, count: number): Promise<Float32Array> {
  const value = new Float32Array(count).fill(NaN);
  await readColumnsInto(bytes, count, { value: { set: (i, v) => void (value[i] = v) } });
  return value;
}

/** Several columns of a tile file of an inline generation. */
export async function decodeColumns(bytes: ArrayBuffer, count: number, names: readonly string[]): Promise<Map<string, Float32Array>> {
  const found = new Map(names.map((name) => [name, new Float32Array(count).fill(NaN)]));
  await readColumnsInto(bytes, count, Object.fromEntries([...found].map(([name, value]) => [name, { set: (i, v) => void (value[i] = v) }])));
  return found;
}

/** All rows of a small file as arrays; binary values are not decoded as text. */
export async function decodeTable(bytes: ArrayBuffer): Promise<unknown[][]> {
  let rows: unknown[][] = [];
  await parquetRead({
    file: { byteLength: bytes.byteLength, slice: (start, end) => bytes.slice(start, end) },
    compressors,
    utf8: false,
    rowFormat: "array",
    onComplete: (found) => void (rows = found as unknown[][]),
  });
  return rows;
}

/** The values of a column; null if the file does not have it. */
export async function decodeValues(bytes: ArrayBuffer, column: string): Promise<unknown[] | null> {
  const metadata = parquetMetadata(bytes);
  if (!metadata.schema.slice(1).some((element) => element.name === column)) return null;
  let rows: unknown[][] = [];
  await parquetRead({
    file: { byteLength: bytes.byteLength, slice: (start, end) => bytes.slice(start, end) },
    metadata,
    compressors,
    columns: [column],
    rowFormat: "array",
    onComplete: (found) => void (rows = found as unknown[][]),
  });
  return rows.map(([value]) => value);
}

/** Sorted positions of removed documents, and the counts to subtract for them. */
export async function decodeRemoved(bytes: ArrayBuffer, count: number): Promise<{ positions: Float64Array; counts: RemovedCounts | null }> {
  const positions = new Float64Array(count).fill(NaN);
  await readColumnsInto(bytes, count, { position: { set: (i, v) => void (positions[i] = v) } });
  if (count && Number.isNaN(positions[count - 1])) throw new ViewerError(`A list of ${count} removed documents has fewer: the map's files do not belong together.`);
  const metadata = parquetMetadata(bytes);
  const found = metadata.key_value_metadata?.find(({ key }) => key === "latentscale.removed")?.value;
  return { positions, counts: found ? (JSON.parse(found) as RemovedCounts) : null };
}

/** Row ids, ascending, and their positions, from a file of `ids/`. */
export async function decodeIds(bytes: ArrayBuffer, count: number): Promise<{ rowIds: Float64Array; positions: Float64Array }> {
  const rowIds = new Float64Array(count).fill(NaN);
  const positions = new Float64Array(count);
  await readColumnsInto(bytes, count, {
    row_id: { set: (i, v) => void (rowIds[i] = v) },
    position: { set: (i, v) => void (positions[i] = v) },
  });
  return { rowIds, positions };
}

export type Fetcher = (start: number, end: number) => Promise<ArrayBuffer>;

export interface PackFooter {
  metadata: FileMetaData;
  /** First row of each row group, then the total number of rows. */
  starts: number[];
  /** Byte range of each row group. */
  ranges: [number, number][];
  columns: string[];
}

/** Read the footer of a row pack: `bytes` is its length, `footer` that of its footer. */
export async function readFooter(fetcher: Fetcher, bytes: number, footer: number): Promise<PackFooter> {
  const metadata = await parquetMetadataAsync({ byteLength: bytes, slice: (s, e) => fetcher(s, e ?? bytes) }, { initialFetchSize: footer });
  const starts = [0];
  const ranges: [number, number][] = [];
  for (const group of metadata.row_groups) {
    starts.push(starts[starts.length - 1] + Number(group.num_rows));
    let low = Infinity;
    let high = 0;
    for (const { meta_data: chunk } of group.columns) {
      if (!chunk) continue;
      const at = Number(chunk.dictionary_page_offset ?? chunk.data_page_offset);
      low = Math.min(low, at);
      high = Math.max(high, at + Number(chunk.total_compressed_size));
    }
    ranges.push([low, high]);
  }
  const columns = metadata.schema.slice(1).map((element) => element.name);
  return { metadata, starts, ranges, columns };
}

/**
 * The rows of a group as arrays in the order of `footer.columns`: as object keys, column names could be `__proto__`.
 */
export async function readGroup(footer: PackFooter, group: number, fetcher: Fetcher): Promise<unknown[][]> {
  const [low, high] = footer.ranges[group];
  const bytes = await fetcher(low, high);
  let rows: unknown[][] = [];
  await parquetRead({
    file: { byteLength: high, slice: (start, end) => bytes.slice(start - low, (end ?? high) - low) },
    metadata: footer.metadata,
    compressors,
    rowStart: footer.starts[group],
    rowEnd: footer.starts[group + 1],
    rowFormat: "array",
    onComplete: (found) => void (rows = found as unknown[][]),
  });
  return rows;
}
