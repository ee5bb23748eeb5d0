import { describe, expect, it } from "vitest";
import { placeLabels, type LabelBox } from "../src/engine/label-placement";
import { pointDensity, pointStyle } from "../src/engine/points";

const window = { width: 1000, height: 600 };
const box = (x: number, y: number, width = 120, height = 20): LabelBox => ({ x, y, width, height });
const panel = { left: 10, top: 10, right: 310, bottom: 400 };

describe("labels", () => {
  it("stay at their clusters where nothing cuts them", () => {
    expect(placeLabels([box(500, 300), box(700, 300)], window, [panel])).toEqual([[500, 300], [700, 300]]);
  });

  it("move in from the edges of the window", () => {
    expect(placeLabels([box(990, 300), box(600, 2)], window, [])).toEqual([[934, 300], [600, 16]]);
  });

  it("move out from under a panel, the shortest way", () => {
    expect(placeLabels([box(330, 200), box(250, 405)], window, [panel])).toEqual([[376, 200], [250, 416]]);
  });

  it("are not shown where their clusters cannot be seen", () => {
    expect(placeLabels([box(200, 200), box(-5, 300), box(500, 700)], window, [panel])).toEqual([null, null, null]);
  });

  it("give way to earlier ones that had to move", () => {
    expect(placeLabels([box(330, 200), box(430, 200)], window, [panel])).toEqual([[376, 200], null]);
    expect(placeLabels([box(430, 200), box(330, 200)], window, [panel])).toEqual([[430, 200], null]);
  });

  it("are not pushed from one panel under another", () => {
    const other = { left: 330, top: 10, right: 500, bottom: 400 };
    expect(placeLabels([box(320, 200, 60)], window, [panel, other])).toEqual([null]);
  });
});

describe("points", () => {
  const even = {
    xy: Uint16Array.from({ length: 2 * 10_000 }, (_, i) => (i % 2 ? Math.floor(i / 200) : (i / 2) % 100) * 655 + 300),
    count: 10_000,
    steps: 65_536,
  };

  it("are counted a square pixel", () => {
    expect(pointDensity(even, 1200)).toBeCloseTo(10_000 / 1200 ** 2, 3);
    expect(pointDensity(even, 300)).toBeGreaterThan(0.08);
    const finer = { xy: Uint32Array.from(even.xy, (v) => v * 64), count: 10_000, steps: 64 * 65_536 };
    expect(pointDensity(finer, 300), "by whatever steps").toBe(pointDensity(even, 300));
  });

  it("are smaller and fainter the more there are", () => {
    const [few, many, most] = [500, 60_000, 2_000_000].map((n) => pointStyle(n / 400_000, n, 900, 0));
    expect(few.size).toBeGreaterThan(many.size);
    expect(many.size).toBeGreaterThan(most.size);
    expect(many.opacity).toBeGreaterThan(most.opacity);
  });

  it("grow while zooming in, and more slowly than the map", () => {
    const sizes = [0, 1, 2, 3].map((steps) => pointStyle(0.05, 20_000, 900, steps).size);
    for (let i = 1; i < 4; i++) expect(sizes[i] / sizes[i - 1]).toBeGreaterThan(1);
    for (let i = 1; i < 4; i++) expect(sizes[i] / sizes[i - 1]).toBeLessThan(2);
  });
});
