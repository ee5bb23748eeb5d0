import { describe, expect, it } from "vitest";
import { readAddress, writeAddress } from "../src/engine/address";
import type { ClusterEntry, NumberColumn } from "../src/engine/format";
import { labelPieces } from "../src/engine/label-breaks";
import { labelOrder, visibleLabels } from "../src/engine/labels";
import { betterScale, formatValue, NO_VALUE, position, shadeIndex, valueAt } from "../src/engine/scale";
import { Cache } from "../src/engine/store";
import { linkOf, reflowed, valueText } from "../src/ui/words";

describe("the address", () => {
  it("says where a view is to less than a pixel, however close it is and wherever the map lies", () => {
    const view: [number, number, number] = [12345.678912345, -0.000123456789, 0.005];
    const [x, y, span] = readAddress(writeAddress({ view })).view!;
    for (const [kept, real] of [[x, view[0]], [y, view[1]]]) expect(Math.abs(kept - real) / span).toBeLessThan(1 / 10_000);
    expect(writeAddress({ view: [1.25, 3, 20] }), "and no longer than that takes").toBe("#v=1.25,3,20");
    const orbit: [number, number, number, number, number, number] = [10, 50, 0.002, 17.123456789, 2, 0.5];
    const kept = readAddress(writeAddress({ orbit })).orbit!;
    expect(Math.abs(kept[3] - orbit[3]) / orbit[2]).toBeLessThan(1 / 10_000);
  });

  it("brings back what was written", () => {
    const state = { view: [1.25, -3, 0.5] as [number, number, number], theme: "light" as const, colour: "c3", scale: "quantile" as const, clusters: ["0.3", "1.2", "n"], categories: ["@a, b", "64"], size: 1.5, contours: true, pinned: 123456789 };
    expect(readAddress(writeAddress(state))).toEqual(state);
  });
  it.each(["#v=1,2", "#v=1,2,0", "#v=a,b,c", "#t=blue", "#c=<img>", "#p=1.5", "#k=900", "#%E0%A4%A", "#i=x", "#"])("ignores %s", (hash) => {
    const { clusters = [], categories = [], ...rest } = readAddress(hash);
    expect([...clusters, ...categories, ...Object.keys(rest)]).toEqual([]);
  });
});

describe("hyphens in labels", () => {
  it.each([
    ["Encodings and UTF-8", ["Encodings and ", "UTF-8", ""]],
    ["e-mail, x86-64 and end-to-end", ["", "e-mail", ", ", "x86-64", " and ", "end-to-end", ""]],
    ["Größe-1 東京-2 (Wi-Fi)", ["", "Größe-1", " ", "東京-2", " (", "Wi-Fi", ")"]],
    ["self-hosted, state-of-the-art, Kubernetes-2", ["self-hosted, state-of-the-art, ", "Kubernetes-2", ""]],
    ["a - b, 1–2, -x, y-, --", ["a - b, 1–2, -x, y-, --"]],
    ["", [""]],
  ])("keeps short words whole in %s", (label, expected) => {
    expect(labelPieces(label)).toEqual(expected);
    expect(labelPieces(label).join("")).toBe(label);
  });
});

describe("values and links", () => {
  it("shows values of any kind as text", () => {
    expect(valueText(null)).toBe("");
    expect(valueText(12345678901234567890n)).toBe("12345678901234567890");
    expect(valueText(new Date(0))).toBe("1970-01-01");
    expect(valueText(1234567.8901)).toBe("1234567.8901");
    expect(valueText(3.141592653589793)).toBe("3.141592653589793");
    expect(valueText(Math.fround(0.1))).toBe("0.1");
    expect(valueText(Math.fround(16777.217))).toBe("16777.217");
    expect(valueText(0.5)).toBe("0.5");
    expect(valueText({ a: 1n })).toBe('{"a":"1"}');
    expect(valueText(0.1 + 0.2)).toBe("0.30000000000000004");
    expect(valueText("<b>x</b>")).toBe("<b>x</b>");
  });
  it("follows http and https and nothing else", () => {
    expect(linkOf("https://example.org/a?b=c")).toBe("https://example.org/a?b=c");
    for (const bad of ["javascript:alert(1)", " https://x.y", "data:text/html,x", "https://", "see https://x.y", 5, null, "ftp://x.y"]) expect(linkOf(bad)).toBeNull();
  });
});

describe("lines that were broken at a width of their own", () => {
  const mail = [
    "A library that draws, in short",
    "Text that somebody wrote in a mail was broken at",
    "some fifty characters, so that it could be read",
    "in a terminal of that width.",
  ].join("\n");
  it("are joined where the next word would not have fitted", () => {
    expect(reflowed(mail)).toBe(
      "A library that draws, in short\nText that somebody wrote in a mail was broken at some fifty characters, so that it could be read in a terminal of that width.",
    );
    expect(reflowed(mail.replaceAll("\n", "\r\n"))).toBe(reflowed(mail));
    expect(reflowed(mail.replace("in short", "in short and in long"))).toMatch(/^A library that draws, in short and in long\nText/);
  });
  it("keep paragraphs, items and what is set in", () => {
    const text = `${mail}\n\nA paragraph of its own, that ends with the\n * item one of a list that is fairly long\n * item two\n1. and a number`;
    const made = reflowed(text);
    for (const kept of ["\n\nA paragraph", "\n * item one", "\n * item two", "\n1. and"]) expect(made).toContain(kept);
  });
  it("stay in verses, in code and in long lines", () => {
    for (const text of ["Roses are red,\nviolets are blue", "x = 1\ny = 2", `${"word ".repeat(60)}\n${"word ".repeat(50)}`, "one line", ""]) expect(reflowed(text)).toBe(text);
  });
});

describe("scales", () => {
  const column: NumberColumn = { id: "c", name: "n", kind: "numbers", min: 0, max: 1000, nulls: 0, quantiles: [0, 1, 2, 4, 1000] };
  it("are linear or by rank, and back", () => {
    expect(position(500, column, "linear")).toBe(0.5);
    expect(position(2, column, "quantile")).toBe(0.5);
    expect(position(-5, column, "quantile")).toBe(0);
    for (const kind of ["linear", "quantile"] as const) for (const t of [0, 0.3, 0.5, 1]) expect(position(valueAt(t, column, kind), column, kind)).toBeCloseTo(t);
    expect(shadeIndex(NaN, column, "linear")).toBe(NO_VALUE);
    expect(shadeIndex(1000, column, "linear")).toBe(254);
  });
  it("go by rank where a few large values would hide the rest", () => {
    expect(betterScale({ ...column, quantiles: Array.from({ length: 65 }, (_, i) => (i === 64 ? 1000 : i / 10)) })).toBe("quantile");
    expect(betterScale({ ...column, quantiles: Array.from({ length: 65 }, (_, i) => (1000 * i) / 64) })).toBe("linear");
  });
  it("show dates as dates", () => {
    expect(formatValue(1, { ...column, kind: "dates" })).toBe("1970-01-02");
  });
});

describe("labels", () => {
  const make = (id: number, layer: number, size: number, zoom: [number, number] | null) => ({ id, layer, size, zoom, x: id, y: 0 }) as ClusterEntry;
  it("show coarse layers first, then by size, in view and in their zooms, up to a limit", () => {
    const ordered = labelOrder([make(0, 0, 5, [1, 9]), make(1, 0, 9, [1, 9]), make(2, 1, 1, [0, 4]), make(3, 0, 1, null)]);
    const view = { x0: -1, y0: -1, x1: 5, y1: 1 };
    expect(visibleLabels(ordered, view, 2).map((c) => c.id)).toEqual([2, 1, 0]);
    expect(visibleLabels(ordered, view, 5).map((c) => c.id)).toEqual([1, 0]);
    expect(visibleLabels(ordered, view, 2, 1).map((c) => c.id)).toEqual([2]);
    expect(visibleLabels(ordered, { ...view, x0: 0.5 }, 5).map((c) => c.id)).toEqual([1]);
  });
});

it("the cache drops what was not used for longest", () => {
  const cache = new Cache<number>(10);
  cache.set("a", 1, 4);
  cache.set("b", 2, 4);
  cache.get("a");
  cache.set("c", 3, 4);
  expect([cache.get("a"), cache.get("b"), cache.get("c")]).toEqual([1, undefined, 3]);
  expect(cache.size).toBe(8);
});
