import { describe, expect, it } from "vitest";
import type { GenerationEntry, PageFile } from "../src/engine/format";
import { chooseTiles, TileTree } from "../src/engine/lod";

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
    expect(choice.tiles.length).toBe(7);
    expect(choice.overBudget).toBe(true);
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
