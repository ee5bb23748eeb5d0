import { describe, expect, it } from "vitest";
import type { ClusterEntry } from "../src/engine/format";
import type { LoadedTile } from "../src/engine/generation";
import { clustersInView } from "../src/engine/in-view";
import { countsOf, listedTopics, topicsToOpen, findTopics, topicTree, typeAhead, type Topic } from "../src/engine/topic-tree";

const entry = (layer: number, id: number, parent: number | null, size: number, label = `${layer}.${id}`) =>
  ({ layer, id, parent, size, label, x: 0, y: 0 }) as unknown as ClusterEntry;

/** Two roots of layer 2, four topics of layer 1, eight of layer 0; one more of layer 0 has a parent that is not there. */
const clusters = [
  ...Array.from({ length: 8 }, (_, id) => entry(0, id, Math.floor(id / 2), 10 + id)),
  entry(0, 70, 99, 500, "orphan"),
  ...Array.from({ length: 4 }, (_, id) => entry(1, id, Math.floor(id / 2), 100 + id)),
  entry(2, 0, null, 210),
  entry(2, 1, null, 220),
];
const tree = topicTree(clusters);
const refs = (open: (topic: Topic) => boolean, search: ReturnType<typeof findTopics> | null = null) =>
  listedTopics(tree, open, search).map(({ topic, level }) => `${"·".repeat(level - 1)}${topic.ref}`);

describe("the tree of topics", () => {
  it("has every cluster of every layer once, largest first", () => {
    expect(tree.roots.map(({ ref }) => ref)).toEqual(["0.70", "2.1", "2.0"]);
    const all = listedTopics(tree, () => true);
    expect(all).toHaveLength(clusters.length);
    expect(new Set(all.map(({ topic }) => topic.ref)).size).toBe(clusters.length);
    expect(refs(() => true).slice(0, 6)).toEqual(["0.70", "2.1", "·1.3", "··0.7", "··0.6", "·1.2"]);
    const [, root, first, leaf] = all;
    expect([root.place, root.siblings, root.open]).toEqual([2, 3, true]);
    expect([first.place, first.siblings, leaf.open]).toEqual([1, 2, null]);
  });

  it("adds up what is in view of the finest clusters", () => {
    const seen = countsOf(tree, new Map([[0, 5], [3, 7], [-1, 9], [4242, 1]]));
    expect(Object.fromEntries([...seen].map(([{ ref }, n]) => [ref, n]))).toEqual({ "0.0": 5, "1.0": 5, "2.0": 12, "0.3": 7, "1.1": 7 });
  });

  it("is as far open as the view is close, and as there is room", () => {
    const seen = (leaves: [number, number][]) => countsOf(tree, new Map(leaves));
    const whole = seen(Array.from({ length: 8 }, (_, id) => [id, 10]));
    expect([...topicsToOpen(tree, whole, 4, 2)]).toEqual([]);
    expect([...topicsToOpen(tree, whole, 7, 2)].sort()).toEqual(["2.0", "2.1"]);
    expect([...topicsToOpen(tree, whole, 15, 2)].sort()).toEqual(["1.0", "1.1", "1.2", "1.3", "2.0", "2.1"]);
    expect([...topicsToOpen(tree, whole, 1, 1)].sort()).toEqual(["2.0", "2.1"]);
    // Closer: only what is in view is opened, down to its parts; what only reaches into the view is not.
    expect([...topicsToOpen(tree, seen([[6, 40], [7, 30], [0, 1]]), 7, 2)].sort()).toEqual(["1.3", "2.1"]);
    // Where there is no room for all of a layer, for the topic that has most of the view.
    expect([...topicsToOpen(tree, seen([[6, 40], [0, 5]]), 5, 2)]).toEqual(["2.1"]);
    expect([...topicsToOpen(tree, new Map(), 100, 2)]).toEqual([]);
  });

  it("lists what was found below all that it is part of", () => {
    const found = findTopics(tree, ({ layer, id }) => (layer === 0 && id === 6) || (layer === 1 && id === 0));
    const open = (topic: Topic) => found.above.has(topic);
    expect(refs(open, found)).toEqual(["2.1", "·1.3", "··0.6", "2.0", "·1.0"]);
    expect(listedTopics(tree, open, found).map(({ context }) => context)).toEqual([true, true, false, true, false]);
    expect(refs(() => true, found)).toContain("··0.1");
    expect(refs(() => true, findTopics(tree, () => false))).toEqual([]);
  });

  it("finds names by their first letters", () => {
    const names = ["Apple", "apricot", "Banana", "avocado"];
    expect(typeAhead(names, 0, "a")).toBe(1);
    expect(typeAhead(names, 1, "aa")).toBe(3);
    expect(typeAhead(names, 3, "a")).toBe(0);
    expect(typeAhead(names, 0, "ap")).toBe(0);
    expect(typeAhead(names, 0, "av")).toBe(3);
    expect(typeAhead(names, 2, "b")).toBe(2);
    expect(typeAhead(names, 0, "x")).toBe(-1);
  });
});

it("counts the drawn points of each cluster in a view, and none that is out of it or off the map", () => {
  const bounds = { x0: 0, y0: 0, x1: 65536, y1: 65536 };
  const xy = new Uint16Array([10, 10, 20, 20, 30, 30, 40, 40, 60_000, 60_000]);
  const tile = { bounds, count: 5, xy, steps: 65536, cluster: new Int32Array([3, 3, -1, -2, 700]), share: 1, gone: 1 } as unknown as LoadedTile;
  expect(clustersInView([tile], { x0: 0, y0: 0, x1: 100, y1: 100 })).toEqual(new Map([[3, 2]]));
  expect(clustersInView([tile], bounds)).toEqual(new Map([[3, 2], [700, 1]]));
  expect(clustersInView([tile], { x0: 70_000, y0: 0, x1: 80_000, y1: 9 })).toEqual(new Map());
});
