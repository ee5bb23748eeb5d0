import { describe, expect, it } from "vitest";
import { Generation } from "../src/engine/generation";
import { MEANING } from "../src/engine/meaning";
import { queryVector, searchMeaning } from "../src/engine/meaning-search";
import { section } from "../src/engine/sections";
import { Store } from "../src/engine/store";
import { entry, haveFixture, read, server } from "./files";

describe.skipIf(!haveFixture)("a search by meaning in what Python wrote", { timeout: 60_000 }, () => {
  const asked = haveFixture ? read<{ text: string; vector: number[]; tenth: number }[]>("meaning.json") : [];
  const open = (log: string[] = []) => new Generation(0, entry(), new Store("http://localhost/", server("whole", log)));

  it("makes the vector that the model makes", async () => {
    const generation = open();
    const meaning = section(await generation.index(), MEANING)!;
    for (const { text, vector } of asked) {
      const own = (await queryVector(generation, meaning, text))!;
      expect(Math.max(...own.map((value, j) => Math.abs(value - vector[j])))).toBeLessThan(1e-6);
    }
    expect(await queryVector(generation, meaning, " \u{1f643} ")).toBeNull();
  });

  it("finds the nearest documents in few of the lists, with their similarity", async () => {
    const log: string[] = [];
    const generation = open(log);
    const meaning = section(await generation.index(), MEANING)!;
    expect(meaning.lists).toBeGreaterThan(4 * meaning.probes);
    expect(meaning.recall).toBeGreaterThanOrEqual(0.9);
    let near = 0;
    for (const { text, tenth } of asked) {
      const before = log.length;
      const { hits, searchable } = await searchMeaning([generation], text);
      expect(log.slice(before).filter((name) => name.includes("/lists/")).length).toBeLessThanOrEqual(meaning.probes);
      expect(searchable).toBe(40_000);
      // Codes are in whole steps, so similarities are near what they are.
      near += hits.slice(0, 10).filter(({ score }) => score > tenth - 0.01).length;
      expect(hits.map(({ score }) => score)).toEqual(hits.map(({ score }) => score).sort((a, b) => b - a));
    }
    expect(near).toBeGreaterThanOrEqual(0.8 * 10 * asked.length);
    const { hits } = await searchMeaning([generation], asked[0].text);
    const texts = await Promise.all(hits.slice(0, 5).map(async ({ position }) => String((await generation.document(position)).values[0][1])));
    for (const text of texts) expect(text).toMatch(/cedar|fjord/);
  });

  it("says what the model does not know, and what the map does not have", async () => {
    const generation = open();
    await expect(searchMeaning([generation], "\u{1f643}")).rejects.toThrow("None of these words is known");
    delete (await generation.index()).sections!.meaning;
    await expect(searchMeaning([generation], "cedar")).rejects.toThrow("not published to be searched by meaning");
  });
});
