/** A map of a hundred million documents: what a walk over it asks for, moves and keeps, with tile pages made when they are asked for. */

import { parquetWriteBuffer } from "hyparquet-writer";
import { expect, it } from "vitest";
import type { GenerationEntry, PageFile } from "../src/engine/format";
import { Generation } from "../src/engine/generation";
import { Store } from "../src/engine/store";
import { TileLoader } from "../src/map/loader";

const DOCUMENTS = 100_000_000;
const TILE = 16_384;
const SIDE = 1024;
const LEVELS = 4;
/** What a tile of as many points weighs as Python writes it: 2.77 bytes each. */
const TILE_BYTES = 45_400;
const WINDOW = { width: 1440, height: 900 };

/** Documents in a cell: three quarters of them in one quarter of the ground, again and again, as real maps have it. */
function documentsIn(z: number, x: number, y: number): number {
  let share = 1;
  for (let level = 0; level < z; level++) {
    const bit = z - 1 - level;
    const quadrant = ((x >> bit) & 1) + 2 * ((y >> bit) & 1);
    share *= [0.4, 0.3, 0.2, 0.1][(quadrant + level) % 4];
  }
  return Math.round(DOCUMENTS * share);
}

/** Points that no ancestor has taken. */
function leftIn(z: number, x: number, y: number): number {
  let left = documentsIn(z, x, y);
  for (let level = 0; level < z; level++) {
    const up = z - level;
    // Each ancestor has an even sample of its cell.
    const [ax, ay] = [x >> up, y >> up];
    const own = documentsIn(level, ax, ay);
    left -= Math.round((TILE * documentsIn(z, x, y)) / own);
  }
  return Math.max(0, left);
}

const hasChild = (z: number, x: number, y: number): boolean => leftIn(z, x, y) > TILE && z < 16;

function pageOf(key: string): PageFile {
  const [z0, x0, y0] = key.split("-").map(Number);
  const tiles: PageFile["tiles"] = [];
  let level = [[x0, y0]];
  let first = z0 * 1e9;
  for (let z = z0; z < z0 + LEVELS && level.length; z++) {
    const next: number[][] = [];
    for (const [x, y] of level) {
      const left = leftIn(z, x, y);
      const count = Math.min(TILE, left);
      let children = 0;
      if (hasChild(z, x, y))
        for (let i = 0; i < 4; i++) {
          const child = [2 * x + (i & 1), 2 * y + (i >> 1)];
          if (leftIn(z + 1, child[0], child[1]) <= 0) continue;
          children |= 1 << i;
          next.push(child);
        }
      tiles.push([z, x, y, first, count, children, TILE_BYTES, Math.max(0, left - count)]);
      first += count;
    }
    level = next;
  }
  return { tiles, packs: [] };
}

it("is walked over with few requests and bytes, and kept within bounds", async () => {
  const columns = (count: number) => [
    { name: "place", data: Int32Array.from({ length: count }, (_, i) => i * 131), type: "INT32" as const },
    { name: "cluster", data: Int32Array.from({ length: count }, (_, i) => i % 900), type: "INT32" as const },
  ];
  const full = parquetWriteBuffer({ columnData: columns(TILE), codec: "UNCOMPRESSED" });
  const asked: string[] = [];
  let moved = 0;
  const server = (async (input: string) => {
    const name = new URL(input).pathname;
    asked.push(name);
    // What the page has let go of, the browser still has.
    if (asked.indexOf(name) < asked.length - 1) return name.includes("/pages/") ? new Response(JSON.stringify(pageOf(/([\d-]+)\.json/.exec(name)![1]))) : new Response(full);
    const page = /pages\/([\d-]+)\.json/.exec(name);
    if (page) {
      const text = JSON.stringify(pageOf(page[1]));
      moved += text.length;
      return new Response(text);
    }
    moved += TILE_BYTES;
    return new Response(full);
  }) as typeof fetch;
  const entry = {
    url: "map/", documents: DOCUMENTS, noise: 0, layers: [900], origin: [0, 0], side: SIDE, extent: [0, 0, SIDE, SIDE], view: [0, 0, SIDE, SIDE],
    schema: 1, tiles: 0, packs: 0, page_levels: LEVELS, root: [TILE, TILE_BYTES, 15],
  } as unknown as GenerationEntry;
  const generation = new Generation(0, entry, new Store("http://localhost/", server));
  const problems: Error[] = [];
  const loader = new TileLoader([generation], () => undefined, (error) => problems.push(error));
  let most = 0;
  let kept = 0;

  /** Look at a place until nothing is missing, as the page does frame by frame. */
  async function look(x: number, y: number, span: number): Promise<number> {
    const scale = WINDOW.height / span;
    const [w, h] = [WINDOW.width / 2 / scale, WINDOW.height / 2 / scale];
    for (let turn = 0; turn < 500; turn++) {
      loader.want({ x0: x - w, x1: x + w, y0: y - h, y1: y + h }, scale, 2_000_000, 150, false);
      const { tiles, loading } = loader.drawn();
      most = Math.max(most, tiles.reduce((sum, tile) => sum + tile.count, 0));
      const { loaded } = loader as unknown as { loaded: ReadonlyMap<string, { count: number }> };
      kept = Math.max(kept, [...loaded.values()].reduce((sum, tile) => sum + tile.count, 0));
      if (!loading) return Math.max(...tiles.map(({ info }) => info.z));
      await new Promise((done) => setTimeout(done, 0));
    }
    throw new Error(`${asked.length} requests, and the view is not whole`);
  }

  await look(SIDE / 2, SIDE / 2, SIDE);
  const first = { requests: asked.length, bytes: moved };
  expect(first.requests).toBeLessThan(40);
  expect(first.bytes).toBeLessThan(1_500_000);
  // Down to single documents, twice, with a look around each time, and back: some minutes of a person.
  let deepest = 0;
  for (const [x, y] of [[300, 700], [820, 130]]) {
    let span = SIDE;
    while (span > 0.05) deepest = Math.max(deepest, await look(x, y, (span /= 2)));
    for (const [dx, dy] of [[0.4, 0], [0.8, 0], [0.8, 0.4]]) await look(x + dx * span, y + dy * span, span);
    await look(SIDE / 2, SIDE / 2, SIDE);
  }
  expect(problems).toEqual([]);
  expect(deepest, "as deep as there is anything").toBeGreaterThan(5);
  expect(new Set(asked).size).toBeLessThan(500);
  expect(moved).toBeLessThan(25_000_000);
  expect(most, "the budget, and what lies around the window").toBeLessThan(2_500_000);
  // Eight bytes each on this side, and twelve on the graphics processor's while they are drawn.
  expect(kept).toBeLessThan(5_500_000);
  console.log(`100 million documents: ${first.requests} requests, ${(first.bytes / 1e6).toFixed(2)} MB for the first view; ${new Set(asked).size} requests, ${(moved / 1e6).toFixed(1)} MB in all, at most ${most} points drawn and ${kept} kept, depth ${deepest}`);
});
