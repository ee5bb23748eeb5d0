import { describe, expect, it } from "vitest";
import { matchEdits, editedDetails, editedLabels, editFile, textError, storeEdits, oneLine, readEditFile, readEdits, withEdit, type ClusterEdit } from "../src/engine/edits";
import type { ClusterDetail, ClusterEntry, LabelsFile } from "../src/engine/format";
import { labelZooms } from "../src/engine/label-zooms";
import { haveFixture, read } from "./files";

const entry = (id: number, more: Partial<ClusterEntry> = {}): ClusterEntry => ({ id, layer: 0, label: `Topic ${id}`, parent: null, x: 10 * id, y: 0, size: 100 - id, nearest: 100, hue: 0, shade: 0, px: 13, zoom: [-4, 99], ...more });
const detail = (exemplars: number[], more: Partial<ClusterDetail> = {}): ClusterDetail => ({ source: null, keyphrases: [], exemplars, hull: [], ...more });
const file = (...clusters: ClusterEntry[]): LabelsFile => ({ layers: 1, hue_layer: 0, clusters });
const edit = (cluster: number, more: Partial<ClusterEdit>): ClusterEdit => ({ layer: 0, cluster, label: `Topic ${cluster}`, size: 100 - cluster, members: [cluster, cluster + 1], ...more });
const HOSTILE = `</script><img src=x onerror="alert(1)"> ' \\ : # - {}`;

describe("edits", () => {
  it("are laid over the clusters, and leave what they do not say", () => {
    const published = file(entry(1), entry(2, { hidden: true, zoom: null }), entry(3, { label: "By hand", found: "Found" }));
    const edits = [edit(1, { rename: HOSTILE }), edit(2, { hide: false }), edit(3, { rename: null, hide: true })];
    const shown = editedLabels(published, edits, null, 30);
    expect(shown.clusters.map(({ label, hidden, edited }) => [label, hidden, edited])).toEqual([
      [HOSTILE, undefined, true],
      ["Topic 2", false, true],
      ["Found", true, true],
    ]);
    expect(shown.clusters.map(({ zoom }) => zoom !== null)).toEqual([true, true, false]);
    expect(editedLabels(published, [], null, 30)).toBe(published);
    const details = [detail([1]), detail([2], { description: "Said." }), detail([3])];
    expect(editedDetails(details, [edit(1, { describe: "New." }), edit(2, { hide: true })], published.clusters).map((one) => one.description)).toEqual(["New.", "Said.", undefined]);
  });

  it("are none where they say how it is already", () => {
    const cluster = entry(3, { label: "By hand", found: "Found" });
    const said = detail([3], { description: "Said." });
    const same = { rename: "By hand", describe: "Said.", hide: false };
    expect(withEdit([], edit(3, same), cluster, said)).toEqual([]);
    expect(withEdit([edit(3, { hide: true })], edit(3, same), cluster, said)).toEqual([]);
    expect(withEdit([], edit(3, { ...same, rename: "Found" }), cluster, said)).toEqual([edit(3, { rename: null })]);
    expect(withEdit([edit(1, { hide: true }), edit(3, { hide: true })], edit(3, { ...same, describe: "Other." }), cluster, said)).toEqual([edit(1, { hide: true }), edit(3, { describe: "Other." })]);
    expect(withEdit([], edit(1, { rename: "Topic 1" }), entry(1), null)).toEqual([]);
  });

  it("are kept and come back, without what is damaged", () => {
    const kept = new Map<string, string>();
    const store = { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => void kept.set(key, value), removeItem: (key: string) => void kept.delete(key) };
    const edits = [edit(1, { rename: HOSTILE }), edit(2, { rename: null, describe: "x", hide: true })];
    expect(storeEdits(store, "k", { folder: "/a/", edits })).toBe(true);
    expect(readEdits(store, "k")).toEqual({ folder: "/a/", edits });
    const damaged = [edit(1, {}), null, 3, { ...edits[0], layer: "0" }, { ...edits[0], rename: 3 }, { ...edits[0], members: [] }, { ...edits[0], rename: "a\u0000" }, { ...edits[1], more: 1 }];
    kept.set("k", JSON.stringify({ folder: "/a/", edits: damaged }));
    expect(readEdits(store, "k")?.edits).toEqual([edits[1]]);
    kept.set("k", "[{");
    expect(readEdits(store, "k")).toBeNull();
    expect(storeEdits(store, "k", { folder: "/a/", edits: [] })).toBe(true);
    expect(kept.size).toBe(0);
    const full = { getItem: () => { throw new Error("denied"); }, setItem: () => { throw new Error("full"); }, removeItem: () => undefined };
    expect(storeEdits(full, "k", { folder: "", edits })).toBe(false);
    expect(readEdits(full, "k")).toBeNull();
  });

  it("go into a file and come back from it", () => {
    const edits = [edit(1, { rename: HOSTILE }), edit(2, { rename: null, describe: "東京 🗺", hide: false })];
    edits[1].label = "a\u007fb\u2028";
    const text = editFile("map-1", edits, "latentscale labels import WORKSPACE edits.yaml");
    expect(text).toContain("a\\u007fb\\u2028");
    expect(readEditFile(text, "edits.yaml")).toEqual({ map: "map-1", edits });
    expect(readEditFile(`\uFEFF${text.replaceAll("\n", "\r\n")}`, "edits.yaml").edits).toEqual(edits);
    expect(() => readEditFile("edits: 1\nclusters:\n", "e.yaml")).toThrow("e.yaml is not an edits file that a page saved");
    expect(() => readEditFile(text.replace('"layer":0', '"layer":"0"'), "e.yaml")).toThrow("e.yaml, line 7: this is no edit");
    expect(() => readEditFile(text.replace("- {", "- label: x {"), "e.yaml")).toThrow("e.yaml, line 7: this is not as the page saved it");
    expect(() => readEditFile(`${text}  rename: more\n`, "e.yaml")).toThrow("line 9");
  });

  it("of another map go to the clusters that have the same documents", () => {
    const clusters = [entry(7), entry(8), entry(9, { layer: 1 })];
    const details = [detail([1, 2, 3, 4]), detail([5, 6]), detail([1, 2])];
    const old = [edit(1, { members: [2, 3, 90], hide: true }), edit(2, { members: [5, 91, 92], hide: true }), edit(3, { members: [1, 2], layer: 1, rename: "x" })];
    expect(matchEdits(old, clusters, details).map(({ layer, cluster, members }) => [layer, cluster, members])).toEqual([
      [0, 7, [1, 2, 3, 4]],
      [1, 9, [1, 2]],
    ]);
  });

  it("are one line of what can be seen", () => {
    expect(oneLine(" a\u00a0b\n c ")).toBe("a b c");
    expect(textError("rename", "x".repeat(201))).toContain("200");
    expect(textError("rename", "🗺".repeat(200))).toBeNull();
    expect(textError("describe", "a\u202eb")).toContain("an invisible character");
  });
});

describe("the room of labels", () => {
  it.skipIf(!haveFixture)("is that which Python found when it published them", () => {
    const { labels, details, side } = read<{ labels: LabelsFile; details: ClusterDetail[]; side: number }>("room.json");
    const zooms = labelZooms(labels, details, side);
    expect(labels.clusters.filter(({ zoom }) => zoom).length).toBeGreaterThan(150);
    labels.clusters.forEach(({ zoom }, i) => {
      expect(zooms[i] === null).toBe(zoom === null);
      zoom?.forEach((end, k) => expect(Math.abs(zooms[i]![k] - end)).toBeLessThan(0.011));
    });
  });

  it("is where they are clear of those before them", () => {
    const clusters = [entry(1, { x: 0 }), entry(2, { x: 1 }), entry(3, { x: 1 }), entry(4, { x: 50, label: "" }), entry(5, { layer: 1, x: 0, y: 40 })];
    const zooms = labelZooms({ layers: 2, hue_layer: 0, clusters }, [detail([]), detail([]), detail([]), detail([]), detail([], { hull: [0, 0, 11, 0, 11, 5] })], 50);
    const width = 7 * 13 * 0.57 + 14;
    expect(zooms[0]![0]).toBeLessThan(zooms[1]![0]);
    expect(2 ** zooms[1]![0]).toBeCloseTo(width, 0);
    expect(zooms[2]).toBeNull();
    expect(zooms[3]).toBeNull();
    expect(zooms[4]![1]).toBeCloseTo(Math.log2(100), 2);
    clusters[1].label += " and more";
    expect(labelZooms({ layers: 1, hue_layer: 0, clusters: clusters.slice(0, 2) }, null, 50)[1]![0]).toBeGreaterThan(zooms[1]![0]);
  });
});
