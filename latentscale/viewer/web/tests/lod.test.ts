import { describe, expect, it } from "vitest";
import type { GenerationEntry, PageFile } from "../src/engine/format";
import { chooseTiles, isShown, TileTree } from "../src/engine/lod";

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
