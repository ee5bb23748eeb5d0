import { describe, expect, it } from "vitest";
import { densityContours, MIN_POINTS, outlinesOf } from "../src/engine/outline";

/** Points on rings around a centre: as dense everywhere, and the same each time. */
function disc(x: number, y: number, radius: number, n: number): number[] {
  return Array.from({ length: n }, (_, i) => {
    const [r, angle] = [radius * Math.sqrt((i + 0.5) / n), 2.399963 * i];
    return [x + r * Math.cos(angle), y + r * Math.sin(angle)];
  }).flat();
}

function annulus(x: number, y: number, radius: number): number[] {
  return Array.from({ length: 900 }, (_, i) => {
    const [r, angle] = [radius + 0.4 * ((i % 7) / 3 - 1), (2 * Math.PI * i) / 900];
    return [x + r * Math.cos(angle), y + r * Math.sin(angle)];
  }).flat();
}

function inside(rings: number[][], x: number, y: number): boolean {
  let odd = false;
  for (const ring of rings)
    for (let i = 0, j = ring.length - 2; i < ring.length; j = i, i += 2) {
      const crosses = ring[i + 1] > y !== ring[j + 1] > y;
      if (crosses && x < ((ring[j] - ring[i]) * (y - ring[i + 1])) / (ring[j + 1] - ring[i + 1]) + ring[i]) odd = !odd;
    }
  return odd;
}

describe("outlines", () => {
  it("goes around each island, and not over what lies between", () => {
    const points = [...disc(0, 0, 1, 300), ...disc(10, 2, 1.5, 400)];
    const rings = outlinesOf(points);
    expect(rings).toHaveLength(2);
    expect(inside(rings, 0, 0)).toBe(true);
    expect(inside(rings, 10, 2)).toBe(true);
    expect(inside(rings, 5, 1)).toBe(false);
    for (const ring of rings) expect(new Set(ring).size).toBeGreaterThan(8);
  });

  it("takes in all but a few points", () => {
    const points = [...disc(0, 0, 1, 500), ...disc(3, 0, 0.8, 300)];
    const rings = outlinesOf(points);
    let within = 0;
    for (let i = 0; i < points.length; i += 2) within += Number(inside(rings, points[i], points[i + 1]));
    expect(within / (points.length / 2)).toBeGreaterThan(0.95);
  });

  it("leaves a hole where a ring of points has none", () => {
    const ring = annulus(0, 0, 5);
    const rings = outlinesOf(ring);
    expect(rings).toHaveLength(2);
    expect(inside(rings, 5, 0)).toBe(true);
    expect(inside(rings, 0, 0)).toBe(false);
  });

  it("goes as close around islands that are far from each other, holes and all", () => {
    const islands = [...annulus(0, 0, 5), ...disc(400, 0, 5, 300)];
    const rings = outlinesOf(islands);
    expect(rings).toHaveLength(3);
    expect(inside(rings, 5, 0)).toBe(true);
    expect(inside(rings, 0, 0)).toBe(false);
    expect(inside(rings, 400, 0)).toBe(true);
    for (const x of [-9, 9, 391, 409]) expect(inside(rings, x, 0)).toBe(false);
  });

  it("leaves out a point that is far from all others", () => {
    const rings = outlinesOf([...disc(0, 0, 1, 400), 30, 30]);
    expect(inside(rings, 0, 0)).toBe(true);
    expect(inside(rings, 30, 30)).toBe(false);
  });

  it("says nothing of a few points, or of points at one place", () => {
    expect(outlinesOf(disc(0, 0, 1, MIN_POINTS - 1))).toEqual([]);
    expect(outlinesOf(Array.from({ length: 100 }, () => [3, 4]).flat())).toEqual([]);
  });
});

describe("lines of equal density", () => {
  const box = { x0: -4, y0: -4, x1: 4, y1: 4 };
  it("lie within each other, the denser inside", () => {
    // Denser towards the middle: radii go by the square of their rank.
    const points = Array.from({ length: 4000 }, (_, i) => {
      const [r, angle] = [3 * ((i + 0.5) / 4000) ** 1.5, 2.399963 * i];
      return [r * Math.cos(angle), r * Math.sin(angle)];
    }).flat();
    const rings = densityContours(points, box);
    const reaches = rings.map((ring) => Math.max(...ring.filter((_, i) => i % 2 === 0)));
    expect(reaches[0]).toBeGreaterThan(1);
    const last = Math.max(...rings.slice(-1).map((ring) => Math.max(...ring.filter((_, i) => i % 2 === 0))));
    expect(last).toBeLessThan(0.5 * reaches[0]);
  });
  it("are of what lies in the box, and none of nothing", () => {
    const far = disc(100, 100, 1, 500);
    expect(densityContours(far, box)).toEqual([]);
    const rings = densityContours([...disc(0, 0, 2, 800), ...far], box);
    expect(rings.length).toBeGreaterThan(0);
    expect(Math.max(...rings.flat())).toBeLessThan(4.5);
  });
});
