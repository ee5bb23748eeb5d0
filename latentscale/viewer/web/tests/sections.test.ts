import { describe, expect, it } from "vitest";
import type { IndexFile, Manifest, Quality } from "../src/engine/format";
import { Generation } from "../src/engine/generation";
import { mergeIndexes } from "../src/engine/merge";
import { lastSection, section, sectionKey } from "../src/engine/sections";
import { Store } from "../src/engine/store";
import { haveFixture, read, server } from "./files";

const ours = sectionKey<{ words: string[] }>("ours", 2);
const has = (sections?: IndexFile["sections"]) => ({ sections });

describe("a section", () => {
  it("is read by its name, if it is not newer than the page", () => {
    expect(section(has({ ours: { version: 2, words: ["a"] }, theirs: { version: 1 } }), ours)).toEqual({ version: 2, words: ["a"] });
    expect(section(has({ ours: { version: 1, words: [] } }), ours)?.words).toEqual([]);
    expect(section(has({ ours: { version: 3, letters: 1 } }), ours)).toBeNull();
    expect(section(has({}), ours)).toBeNull();
    expect(section(has(), ours)).toBeNull();
    expect(section(has({}), sectionKey("constructor", 1))).toBeNull();
  });

  it("of a map that grew is that of the last generation that has one", () => {
    const old = has({ ours: { version: 1, words: ["old"] } });
    expect(lastSection([old, has({ ours: { version: 2, words: ["new"] } })], ours)?.words).toEqual(["new"]);
    expect(lastSection([old, has({ ours: { version: 3 } }), has()], ours)?.words).toEqual(["old"]);
    expect(lastSection([], ours)).toBeNull();
  });
});

describe.skipIf(!haveFixture)("sections that Python wrote", () => {
  it("are kept apart by generation, and typed", async () => {
    const store = new Store("http://localhost/grown/viewer/", server("ranges"));
    const { generations } = await store.json<Manifest>("manifest.json");
    const opened = generations.map((entry, i) => new Generation(i, entry, store));
    const merged = mergeIndexes(await Promise.all(opened.map(async (g) => ({ entry: g.entry, index: await g.index(), removed: null }))));
    const key = sectionKey<Quality>("quality", 1);
    const found = merged.generations.map((index) => section(index, key)!);
    expect(found.map(({ map }) => map)).toEqual(["map-00000000", "map-00000001", "map-00000002"]);
    expect(found.map(({ growth }) => growth?.refit_due)).toEqual([undefined, false, false]);
    expect(lastSection(merged.generations, key)).toBe(found[2]);
    // Every name and type of the interface: what Python has besides or lacks would show here.
    const typed: Record<keyof Quality, string> = {
      map: "string", documents: "number", clusters: "number", k: "number", sample: "number", trustworthiness: "number",
      preservation: "number", recall: "number", noise_share: "number", duplicates: "number", outlier_rate: "number",
      components: "number", largest_component: "number", stability: "number", against: "object", red_flags: "object", growth: "object", space: "object",
    };
    const { version, ...entry } = found[2] as Quality & { version: number };
    expect(version).toBe(1);
    expect(Object.fromEntries(Object.entries(entry).map(([name, value]) => [name, typeof value]))).toEqual(typed);
    expect(Object.keys(entry.against!).sort()).toEqual(["ari", "column", "nmi", "purity"]);
    expect(Object.keys(entry.growth!).sort()).toEqual(["added", "fitted", "reasons", "refit_due", "removed"]);
  });

  it("may have files of their own", async () => {
    const generation = new Generation(0, read("entry.json"), new Store("http://localhost/", server("ranges")));
    expect((await generation.bytes("index.json")).byteLength).toBeGreaterThan(100);
  });
});
