import { describe, expect, it } from "vitest";
import { categoryCodes, categoryNames, colourName, colourFromName } from "../src/engine/column-names";
import type { ColourColumn } from "../src/engine/format";
import { REMOVED, type LoadedTile } from "../src/engine/generation";
import { countInView } from "../src/engine/in-view";
import { isShown } from "../src/engine/lod";
import { decodeFile, MissingFile, Store } from "../src/engine/store";

describe("what is in view", () => {
  const count = 5_000;
  const xy = Uint16Array.from({ length: 2 * count }, (_, i) => (i * 40_503 + (i % 7) * 977) % 65_536);
  const cluster = Int32Array.from({ length: count }, (_, i) => (i % 10 ? i % 4 : REMOVED));
  const tile = (share: number) => ({ count, xy, steps: 65536, cluster, share, removed: count / 10, bounds: { x0: -2, y0: 3, x1: 6, y1: 11 } }) as LoadedTile;
  const at = (i: number) => [-2 + ((xy[2 * i] + 0.5) * 8) / 65_536, 3 + ((xy[2 * i + 1] + 0.5) * 8) / 65_536];

  it.each([
    [{ x0: -9, y0: -9, x1: 20, y1: 20 }, 1],
    [{ x0: 0, y0: 4, x1: 2.5, y1: 9 }, 1],
    [{ x0: 0, y0: 4, x1: 2.5, y1: 9 }, 0.3],
    [{ x0: -9, y0: -9, x1: 20, y1: 20 }, 0.6],
    [{ x0: 7, y0: 4, x1: 9, y1: 9 }, 1],
  ])("is counted point by point: %o, share %d", (view, share) => {
    const drawn = Array.from({ length: count }, (_, i) => i).filter((i) => {
      const [x, y] = at(i);
      return cluster[i] !== REMOVED && isShown(i, share) && x >= view.x0 && x <= view.x1 && y >= view.y0 && y <= view.y1;
    });
    expect(countInView([tile(share)], view)).toBe(drawn.length);
  });
});

describe("columns in an address", () => {
  const columns: ColourColumn[] = [
    { id: "c4", name: "kind, of", kind: "categories", categories: [["a, b", 3], ["", 2]], other: [3, 9], nulls: 1 },
    { id: "c7", name: "cluster", kind: "numbers", min: 0, max: 1, quantiles: [0, 1], nulls: 0 },
  ];
  it("go by name, whatever their place", () => {
    for (const { id } of columns) expect(colourFromName(colourName(id, columns), columns)).toBe(id);
    expect(colourFromName("cluster", columns)).toBe("cluster");
    expect(colourFromName("c7", columns)).toBe("c7");
    expect([colourFromName("@none", columns), colourFromName("c9", columns), colourFromName("layer:2", columns)]).toEqual([null, null, "layer:2"]);
  });
  it("have their categories by name too, but those that have none", () => {
    expect(categoryNames([0, 1, 64, 255], columns[0])).toEqual(["@a, b", "@", "64", "255"]);
    expect(categoryCodes(["@a, b", "@", "64", "255", "@gone"], columns[0])).toEqual([0, 1, 64, 255]);
    expect(categoryCodes(["@a, b"], columns[1])).toEqual([]);
  });
});

describe("the store", () => {
  const answers = (...list: (number | Error)[]) => {
    const asked: (RequestCache | undefined)[] = [];
    const get = (async (_: string, init?: RequestInit) => {
      asked.push(init?.cache);
      const answer = list[Math.min(asked.length, list.length) - 1];
      if (answer instanceof Error) throw answer;
      return new Response("{}", { status: answer });
    }) as typeof fetch;
    return { store: new Store("http://localhost/", get, [1, 1]), asked };
  };

  it("asks again where the server stumbles, and gives up with the file and the cause", async () => {
    const good = answers(503, new TypeError("Failed to fetch"), 200);
    expect(await good.store.json("a.json")).toEqual({});
    expect(good.asked).toHaveLength(3);
    const bad = answers(500);
    await expect(bad.store.file("b.parquet")).rejects.toThrow("The server answered 500 for b.parquet.");
    expect(bad.asked).toHaveLength(3);
    await expect(answers(new TypeError("Failed to fetch")).store.file("c.json")).rejects.toThrow("c.json did not arrive");
    const refused = answers(403);
    await expect(refused.store.file("d.json")).rejects.toThrow("403 for d.json");
    expect(refused.asked).toHaveLength(1);
  });

  it("asks once for a missing file, and past the browser's copies when told to try again", async () => {
    const { store, asked } = answers(404, 200);
    await expect(store.file("a.json")).rejects.toThrow(MissingFile);
    await expect(store.file("a.json")).rejects.toThrow("a.json is missing on the server.");
    expect(asked).toEqual([undefined]);
    store.forget();
    expect(await store.json("a.json")).toEqual({});
    expect(asked).toEqual([undefined, "no-cache"]);
  });

  it("names the damaged file, and leaves other errors as they are", async () => {
    await expect(decodeFile("x.parquet", () => { throw new Error("footer != PAR1"); })).rejects.toThrow("x.parquet is damaged or cut off: footer != PAR1.");
    await expect(decodeFile("x", () => { throw new MissingFile("y is missing"); })).rejects.toThrow(/^y is missing$/);
  });
});
