/**
 * A set of documents as ranges of positions per generation. Whole tiles are single ranges, so sets of millions stay
 * small.
 */

/** The part of `LoadedTile` used here. */
interface Tile {
  generation: { number: number };
  info: { first: number };
  count: number;
  cluster: ArrayLike<number>;
}

/** Half-open ranges, ascending and disjoint: start0, end0, start1, end1, … */
export type Ranges = readonly number[];

/** Ranges by generation number; generations without documents are absent. */
export type Selection = ReadonlyMap<number, Ranges>;

export const OPERATIONS = ["replace", "add", "subtract", "intersect"] as const;
export type Operation = (typeof OPERATIONS)[number];

/** Ranges of ascending distinct positions. */
export function rangesOf(positions: ArrayLike<number>): Ranges {
  const ranges: number[] = [];
  for (let i = 0; i < positions.length; i++) {
    const last = ranges.length - 1;
    if (ranges[last] === positions[i]) ranges[last] += 1;
    else ranges.push(positions[i], positions[i] + 1);
  }
  return ranges;
}

/** The documents of a list in any order; duplicates are allowed. */
export function selectionOf(rows: Iterable<{ generation: { number: number }; position: number }>): Selection {
  const lists = new Map<number, Set<number>>();
  for (const { generation, position } of rows) {
    const list = lists.get(generation.number);
    if (list) list.add(position);
    else lists.set(generation.number, new Set([position]));
  }
  return new Map([...lists].map(([number, list]) => [number, rangesOf(Float64Array.from(list).sort())]));
}

/** Sort ranges, and merge those that touch or overlap. Sorts `pairs` in place. */
export function mergeRanges(pairs: [start: number, end: number][]): Ranges {
  const ranges: number[] = [];
  for (const [start, end] of pairs.sort((a, b) => a[0] - b[0])) {
    const last = ranges.length - 1;
    if (start <= ranges[last]) ranges[last] = Math.max(ranges[last], end);
    else if (end > start) ranges.push(start, end);
  }
  return ranges;
}

/** Combine two sets of ranges by a Boolean operation in one sweep. */
function combineRanges(a: Ranges, b: Ranges, keep: (inA: boolean, inB: boolean) => boolean): Ranges {
  const ranges: number[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    const at = Math.min(a[i] ?? Infinity, b[j] ?? Infinity);
    while (a[i] === at) i++;
    while (b[j] === at) j++;
    // After an odd number of bounds: inside.
    if (keep(i % 2 === 1, j % 2 === 1) !== (ranges.length % 2 === 1)) ranges.push(at);
  }
  return ranges;
}

const KEEP: Record<Exclude<Operation, "replace">, (inA: boolean, inB: boolean) => boolean> = {
  add: (inA, inB) => inA || inB,
  subtract: (inA, inB) => inA && !inB,
  intersect: (inA, inB) => inA && inB,
};

/** Replace `selection` by `other`, or take their union, difference or intersection. */
export function combine(selection: Selection | null, operation: Operation, other: Selection): Selection {
  if (operation === "replace") return other;
  const result = new Map<number, Ranges>();
  for (const number of new Set([...(selection ?? new Map()).keys(), ...other.keys()] as number[])) {
    const ranges = combineRanges(selection?.get(number) ?? [], other.get(number) ?? [], KEEP[operation]);
    if (ranges.length) result.set(number, ranges);
  }
  return result;
}

/** Number of documents in a selection. */
export function sizeOf(selection: Selection): number {
  let size = 0;
  for (const ranges of selection.values()) for (let i = 0; i < ranges.length; i += 2) size += ranges[i + 1] - ranges[i];
  return size;
}

/** Index of the first bound greater than a position. */
function upperBound(ranges: Ranges, position: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle] <= position) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Whether ranges contain a position. */
export const has = (ranges: Ranges | undefined, position: number): boolean => ranges !== undefined && upperBound(ranges, position) % 2 === 1;

/** Mask over `count` positions from `first` that are in the ranges. */
export function maskOf(ranges: Ranges | undefined, first: number, count: number): Uint8Array {
  const mask = new Uint8Array(count);
  if (!ranges) return mask;
  for (let i = upperBound(ranges, first) & ~1; i < ranges.length && ranges[i] < first + count; i += 2)
    mask.fill(1, Math.max(0, ranges[i] - first), Math.min(count, ranges[i + 1] - first));
  return mask;
}

/** Number of points of tiles that are selected and not removed. */
export function countSelected(selection: Selection, tiles: readonly Tile[]): number {
  let found = 0;
  for (const tile of tiles) {
    const mask = maskOf(selection.get(tile.generation.number), tile.info.first, tile.count);
    for (let i = 0; i < tile.count; i++) if (mask[i] && tile.cluster[i] >= -1) found += 1;
  }
  return found;
}

/** The first `limit` documents in order of generation and position. */
export function firstRows<G extends { number: number }>(selection: Selection, generations: readonly G[], limit: number): { generation: G; position: number }[] {
  const rows: { generation: G; position: number }[] = [];
  for (const generation of generations) {
    const ranges = selection.get(generation.number) ?? [];
    for (let i = 0; i < ranges.length && rows.length < limit; i += 2)
      for (let position = ranges[i]; position < ranges[i + 1] && rows.length < limit; position++) rows.push({ generation, position });
  }
  return rows;
}
