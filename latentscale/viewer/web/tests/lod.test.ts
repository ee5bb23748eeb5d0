import { describe, expect, it } from "vitest";
import type { GenerationEntry, PageFile } from "../src/engine/format";
import { chooseAll, chooseTiles, isShown, TileTree } from "../src/engine/lod";

const entry = { origin: [0, 0], side: 16, page_levels: 4, root: [100, 1000, 15] } as unknown as GenerationEntry;
const view = { x0: 0, y0: 0, x1: 16, y1: 16 };

function tree(): TileTree {
  const made = new TileTree(entry);
  const tiles: PageFile["tiles"] = [];
  let first = 0;
  for (let z = 0; z < 4; z++)
    for (let x = 0; x < 2 ** z; x++)
      for (let y = 0; y < 2 ** z; y++) {
        tiles.push([z, x, y, first, 100, 15, 1000]);
        first += 100;
      }
  made.addPage("0-0-0", { tiles, packs: [[1, 500, 9, 1], [0, 0, 9, 1]] });
  return made;
}

describe("the choice of tiles", () => {
  it("starts with the root alone, and asks for its page", () => {
    const choice = chooseTiles(new TileTree(entry), { view, scale: 100, budget: 1e6, minEdge: 150 });
    expect(choice.tiles.map((t) => t.key)).toEqual(["0-0-0"]);
    expect(choice.pages).toEqual(["0-0-0"]);
  });

  it("opens tiles that are large on the screen, coarse ones first", () => {
    const choice = chooseTiles(tree(), { view, scale: 50, budget: 1e6, minEdge: 150 });
    expect(choice.tiles).toHaveLength(1 + 4 + 16);
    expect(choice.tiles.map((t) => t.z)).toEqual([...choice.tiles.map((t) => t.z)].sort());
    expect(choice.sampled).toBe(true);
    expect(choice.overBudget).toBe(false);
  });

  it("keeps to the budget, and says so", () => {
    const choice = chooseTiles(tree(), { view, scale: 50, budget: 750, minEdge: 150 });
    expect(choice.points).toBeLessThanOrEqual(750);
    expect(choice.tiles.length).toBe(5);
    expect(choice.overBudget).toBe(true);
  });

  it("draws the same part of all tiles of a level that does not fit whole", () => {
    const choice = chooseTiles(tree(), { view, scale: 50, budget: 1300, minEdge: 150 });
    expect(choice.tiles).toHaveLength(1 + 4 + 16);
    expect(new Set(choice.shares.slice(0, 5))).toEqual(new Set([1]));
    expect(new Set(choice.shares.slice(5))).toEqual(new Set([0.5]));
    expect(choice.points).toBe(500 + 16 * 50);
    expect(choice.overBudget).toBe(true);
    const shown = Array.from({ length: 16_384 }, (_, i) => isShown(i, 0.5));
    expect(shown.filter(Boolean).length / shown.length).toBeCloseTo(0.5, 2);
    expect(shown.slice(0, 100).filter(Boolean).length).toBeGreaterThan(40);
  });

  it("goes deeper under the same budget the closer the view is", () => {
    const near = { x0: 7.5, y0: 7.5, x1: 8.5, y1: 8.5 };
    const choice = chooseTiles(tree(), { view: near, scale: 1000, budget: 400, minEdge: 150 });
    expect(Math.max(...choice.tiles.map((t) => t.z))).toBe(3);
    expect(choice.overBudget).toBe(false);
  });

  it("looks at nothing outside the view", () => {
    const corner = { x0: 0.1, y0: 0.1, x1: 0.9, y1: 0.9 };
    const choice = chooseTiles(tree(), { view: corner, scale: 1000, budget: 1e6, minEdge: 150 });
    expect(choice.tiles.map((t) => t.key)).toEqual(["0-0-0", "1-0-0", "2-0-0", "3-0-0"]);
    expect(choice.pages).toEqual(["4-0-0"]);
  });

  it("finds the pack of a position", () => {
    expect(tree().packOf(499)?.index).toBe(0);
    expect(tree().packOf(500)?.index).toBe(1);
  });
});

describe("several generations", () => {
  /** All of `documents` in a root and, if it does not hold them, in four tiles below it. */
  function generation(documents: number, hold = 1000): TileTree {
    const root = Math.min(documents, hold);
    const made = new TileTree({ ...entry, documents, root: [root, 1, documents > hold ? 15 : 0] } as unknown as GenerationEntry);
    if (documents > hold) {
      const rest = (documents - hold) / 4;
      const tiles = [0, 1, 2, 3].map((i): PageFile["tiles"][number] => [1, i & 1, i >> 1, hold + i * rest, Math.min(rest, hold), rest > hold ? 15 : 0, 1, Math.max(0, rest - hold)]);
      made.addPage("0-0-0", { tiles: [[0, 0, 0, 0, root, 15, 1, documents - root], ...tiles], packs: [] });
    }
    return made;
  }
  const options = { view, scale: 50, budget: 1e6, minEdge: 150 };

  it("are drawn whole where the largest is", () => {
    const [first, second] = chooseAll([generation(4000), generation(60)], options);
    expect([first.rate, first.points, second.points]).toEqual([1, 4000, 60]);
    expect(second.sampled).toBe(false);
  });

  it("are drawn by the same part as the largest: an update does not outweigh the map", () => {
    // The root alone: a tenth of all.
    const [first, second] = chooseAll([generation(10_000), generation(600)], { ...options, minEdge: 500 });
    expect(first.points).toBe(1000);
    expect(second.points / 600).toBeCloseTo(0.1, 1);
    expect(second.sampled).toBe(true);
    const whole = chooseAll([generation(10_000), generation(600)], { ...options, minEdge: 500 }, true);
    expect(whole[1].points).toBe(600);
  });

  it("whichever comes first, and level by level", () => {
    const [second, first] = chooseAll([generation(3000), generation(10_000)], options);
    expect(first.points).toBe(5000);
    expect(first.rate).toBeCloseTo(0.5, 6);
    expect(second.tiles.length).toBe(5);
    expect(second.points / 3000).toBeCloseTo(0.5, 1);
  });

  it("keep to the budget together", () => {
    const trees = Array.from({ length: 8 }, () => generation(4000));
    const choices = chooseAll(trees, { ...options, budget: 9000 });
    const points = choices.reduce((sum, choice) => sum + choice.points, 0);
    expect(points).toBeGreaterThan(7000);
    expect(points).toBeLessThan(10_000);
  });

  it("are drawn where the largest has nothing", () => {
    const elsewhere = new TileTree({ ...entry, origin: [100, 100], documents: 60, root: [60, 1, 0] } as unknown as GenerationEntry);
    const far = { x0: 100, y0: 100, x1: 116, y1: 116 };
    const [first, second] = chooseAll([generation(10_000), elsewhere], { ...options, view: far, minEdge: 500 });
    expect(first.tiles).toHaveLength(0);
    expect(second.points).toBe(60);
  });

  it("need no page for a root without children", () => {
    const choice = chooseTiles(generation(60), options);
    expect(choice.pages).toEqual([]);
  });
});
