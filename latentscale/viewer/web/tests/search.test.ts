import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { Generation } from "../src/engine/generation";
import { compareCodePoints, forEachPosting, search } from "../src/engine/search";
import { Store } from "../src/engine/store";
import { splitAtMatches, readQuery, tokens } from "../src/engine/tokens";
import { entry, haveFixture, read, server, type Expected } from "./files";

const cases = fileURLToPath(new URL("../../../../tests/viewer/token_cases.json", import.meta.url));

describe.skipIf(!existsSync(cases))("words", () => {
  it.each(JSON.parse(existsSync(cases) ? readFileSync(cases, "utf8") : "[]") as [string, string[]][])("of %s are those that Python finds", (text, words) => {
    expect(tokens(text)).toEqual(words);
  });
});

describe("a query", () => {
  it("has each word once, and the last may go on while it is typed", () => {
    expect(readQuery("The the Cat")).toEqual({ words: ["the", "cat"], open: true, id: "the the cat" });
    expect(readQuery("cat the cat")).toMatchObject({ words: ["the", "cat"], open: true });
    expect(readQuery("cat ")).toMatchObject({ words: ["cat"], open: false });
    expect(readQuery("東京").open).toBe(false);
    expect(readQuery(" -- ")).toMatchObject({ words: [], open: false });
  });
  it("marks its words in a text as it was written", () => {
    const mark = (text: string, query: string) => splitAtMatches(text, readQuery(query)).map((part, i) => (i % 2 ? `[${part}]` : part)).join("");
    expect(mark("Café, cafés and CAFE!", "cafe ")).toBe("[Café], cafés and [CAFE]!");
    expect(mark("Café, cafés and decaf", "caf")).toBe("[Café], [cafés] and decaf");
    expect(mark("東京都に行く", "京都")).toBe("東[京都]に行く");
    expect(mark("<b>bold</b>", "b ")).toBe("<[b]>bold</[b]>");
    expect(mark("nothing", "else")).toBe("nothing");
    expect(mark("", "x")).toBe("");
  });
});

it("places are steps of seven bits a byte", () => {
  const seen: [number, number][] = [];
  // 5, then 5 + 300, then 305 + 2^31.
  const places = Uint8Array.from([5, 0xac, 0x02, 0x80, 0x80, 0x80, 0x80, 0x08]);
  forEachPosting({ places, weights: Uint8Array.from([9, 8, 7]) }, (position, weight) => seen.push([position, weight]));
  expect(seen).toEqual([[5, 9], [305, 8], [305 + 2 ** 31, 7]]);
});

it("words are in the order of their code points, as in the files", () => {
  const words = ["a", "ab", "b", "京", "京都", "\uff9e", "𠮷野"];
  expect([...words].reverse().sort(compareCodePoints)).toEqual(words);
});

describe.skipIf(!haveFixture)("a search in what Python wrote", () => {
  const open = (log: string[] = []) => [new Generation(0, entry(), new Store("http://localhost/", server("whole", log)))];
  const rows = async (query: string, limit = 5, log: string[] = []) => {
    const { hits, ...rest } = await search(open(log), readQuery(query));
    const documents = await Promise.all(hits.slice(0, limit).map(({ generation, position }) => generation.document(position)));
    return { ...rest, count: hits.length, texts: documents.map(({ values }) => String(values[0][1])) };
  };

  it("finds the one document that has a rare word", async () => {
    const { count, texts, whole } = await rows("cedar 31234 ");
    expect([count, texts, whole]).toEqual([1, [expect.stringContaining("Document number 31234 ")], true]);
  });
  it("does not take a word that nearly all have for one that the others lack", async () => {
    const { count, texts, common, more } = await rows("number 31234 ");
    expect([count, texts, common, more]).toEqual([1, [expect.stringContaining("Document number 31234 ")], ["number"], false]);
    expect(await rows("document number ")).toMatchObject({ count: expect.any(Number), common: ["document", "number"], more: true });
  });
  it("finds what has all words, and says how many", async () => {
    const n = read<Expected>("expected.json").rowIds.length;
    const own = Array.from({ length: n }, (_, i) => i).filter((i) => i % 16 === 2 && Math.floor(i / 16) % 16 === 5).length;
    const { count, texts, more } = await rows("cedar FJORD");
    for (const text of texts) expect(text).toMatch(/cedar.*fjord|fjord.*cedar/);
    const other = Array.from({ length: n }, (_, i) => i).filter((i) => i % 16 === 5 && Math.floor(i / 16) % 16 === 2).length;
    expect([count, more]).toEqual([own + other, false]);
  });
  it("takes the last word as a beginning, and finds nothing for what is not there", async () => {
    expect((await rows("orch")).texts[0]).toContain("orchard");
    expect(await rows("orch ")).toMatchObject({ count: 0, whole: false });
    expect(await rows("zzzz")).toMatchObject({ count: 0 });
  });
  it("finds any of the words where no document has all", async () => {
    const { count, whole, texts } = await rows("31234 orchard nowhere ");
    expect([count > 1, whole]).toEqual([true, false]);
    expect(texts[0]).toMatch(/31234|orchard/);
  });
  it("asks for few files, and for each once", async () => {
    const log: string[] = [];
    const generations = open(log);
    await search(generations, readQuery("amber basin "));
    await search(generations, readQuery("amber basin "));
    const asked = log.filter((line) => line.includes("search"));
    expect(asked.length).toBeLessThanOrEqual(3);
    expect(new Set(asked).size).toBe(asked.length);
  });
});
