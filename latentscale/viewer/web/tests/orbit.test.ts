import { expect, it } from "vitest";
import { readAddress, writeAddress } from "../src/engine/address";
import { bandOf } from "../src/engine/density-bands";
import { REMOVED, type LoadedTile } from "../src/engine/generation";
import { orbitAround, interpolateOrbits, clampOrbit, frameOf, moved, project, scaleOf, turned, type Orbit } from "../src/engine/orbit";
import { pickInSpace, scanSpace } from "../src/engine/space-scan";
import { zoomed } from "../src/map/space-control";

const SIZE = { width: 1200, height: 800 };
const FLAT = { x: 3, y: -2, scale: 40 };
const ORBIT: Orbit = { target: [1, 2, 0.5], turn: -35, tilt: 50, distance: 20 };
const frame = (orbit = ORBIT, lift = 1, share = 1) => frameOf(orbit, SIZE, lift, FLAT, share);
const at = (orbit: Orbit, point: readonly [number, number, number]) => project(frame(orbit), ...point)!;

function random(seed: number): () => number {
  let state = seed;
  return () => ((state = (state * 48271) % 2147483647) / 2147483647);
}

it("the way begins at the flat map, whatever the heights", () => {
  const start = frame(ORBIT, 3, 0);
  const next = random(5);
  for (let i = 0; i < 50; i++) {
    const [x, y, z] = [10 * next() - 5, 10 * next() - 5, 10 * next() - 5];
    const [left, top] = project(start, x, y, z)!;
    expect(left).toBeCloseTo((x - FLAT.x) * FLAT.scale + 600, 6);
    expect(top).toBeCloseTo(400 - (y - FLAT.y) * FLAT.scale, 6);
  }
});

it("axes of the window are at right angles, and the target is in its middle", () => {
  const next = random(9);
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i], 0);
  for (let i = 0; i < 50; i++) {
    const orbit: Orbit = { target: [next(), next(), next()], turn: 720 * next() - 360, tilt: 88 * next(), distance: 1 + 50 * next() };
    const { right, up, toward } = frame(orbit);
    for (const [a, b] of [[right, up], [right, toward], [up, toward]]) expect(dot(a, b)).toBeCloseTo(0, 10);
    for (const axis of [right, up, toward]) expect(dot(axis, axis)).toBeCloseTo(1, 10);
    const middle = at(orbit, orbit.target);
    [600, 400, 0].forEach((expected, k) => expect(middle[k]).toBeCloseTo(expected, 9));
  }
});

it("what is nearer to the eye is larger, and what is behind it is not seen", () => {
  const near = frame().toward.map((v, i) => ORBIT.target[i] + 8 * v) as [number, number, number];
  const behind = frame().toward.map((v, i) => ORBIT.target[i] + 21 * v) as [number, number, number];
  const right = frame().right;
  const wide = (from: readonly number[]) => project(frame(), from[0] + right[0], from[1] + right[1], from[2] + right[2])![0] - 600;
  expect(wide(ORBIT.target)).toBeCloseTo(scaleOf(ORBIT, SIZE), 6);
  expect(wide(near)).toBeCloseTo(scaleOf(ORBIT, SIZE) / (1 - 8 / 20), 6);
  expect(project(frame(), ...behind)).toBeNull();
});

it("a map that is moved by pixels follows the pointer; zoom keeps what is under it", () => {
  const scale = scaleOf(ORBIT, SIZE);
  const [left, top] = at(moved(ORBIT, 30 / scale, -12 / scale), ORBIT.target);
  expect(left).toBeCloseTo(630, 6);
  expect(top).toBeCloseTo(388, 6);
  // A point of the plane through the target that faces the eye.
  const f = frame();
  const point = f.target.map((v, i) => v + 4 * f.right[i] - 2 * f.up[i]) as [number, number, number];
  const before = at(ORBIT, point);
  const after = at(zoomed(ORBIT, 1.7, SIZE, before[0], before[1]), point);
  expect(after[0]).toBeCloseTo(before[0], 6);
  expect(after[1]).toBeCloseTo(before[1], 6);
});

it("angles stay in their range, and two orbits are joined the short way", () => {
  expect(turned(ORBIT, 300).turn).toBeCloseTo(-95);
  expect(turned(ORBIT, 0, 200).tilt).toBe(88);
  expect(turned(ORBIT, 0, -200).tilt).toBe(0);
  const middle = interpolateOrbits({ ...ORBIT, turn: 170 }, { ...ORBIT, turn: -170, distance: 80 }, 0.5);
  expect(middle.turn).toBeCloseTo(180);
  expect(middle.distance).toBeCloseTo(40);
});

it("what lies in a box, but for its corners, is seen beside the panels from every side", () => {
  const box = { x0: -4, y0: -3, x1: 6, y1: 5 };
  const covered = { left: 340, right: 80, top: 36, bottom: 48 };
  for (let turn = -180; turn < 180; turn += 30) {
    const orbit = orbitAround(box, 1, SIZE, covered, { turn, tilt: 56 });
    const [left, top] = at(orbit, [1, 1, 1]);
    expect(left).toBeCloseTo((340 + 1200 - 80) / 2, 6);
    expect(top).toBeCloseTo((36 + 800 - 48) / 2, 6);
    for (let angle = 0; angle < 2 * Math.PI; angle += 0.2) {
      const edge = at(orbit, [1 + 5 * Math.cos(angle), 1 + 4 * Math.sin(angle), 1]);
      expect(edge[0]).toBeGreaterThan(260);
      expect(edge[0]).toBeLessThan(1160);
      expect(edge[1]).toBeGreaterThan(0);
      expect(edge[1]).toBeLessThan(800);
    }
  }
});

function tile(points: readonly (readonly [x: number, y: number, z: number])[], share = 1): { tile: LoadedTile; heights: Float32Array } {
  const bounds = { x0: -8, y0: -8, x1: 8, y1: 8 };
  const step = 16 / 65536;
  return {
    tile: {
      count: points.length,
      xy: Uint16Array.from(points.flatMap(([x, y]) => [(x + 8) / step - 0.5, (y + 8) / step - 0.5])),
      cluster: new Int32Array(points.length),
      bounds,
      steps: 65536,
      share,
      gone: 0,
    } as unknown as LoadedTile,
    heights: Float32Array.from(points.flatMap(([, , z]) => [z, 0])),
  };
}

it("the scan finds each drawn point where it is projected", () => {
  const next = random(3);
  const points = Array.from({ length: 200 }, () => [16 * next() - 8, 16 * next() - 8, 6 * next() - 3] as const);
  const { tile: made, heights } = tile(points);
  made.cluster[7] = REMOVED;
  const seen = new Map<number, [number, number]>();
  scanSpace(frame(ORBIT, 1.5), [made], () => ({ values: heights }), (_tile, i, left, top) => void seen.set(i, [left, top]));
  expect(seen.has(7)).toBe(false);
  let visible = 0;
  points.forEach(([x, y, z], i) => {
    if (i === 7) return;
    const expected = project(frame(ORBIT, 1.5), x, y, z);
    expect(seen.has(i)).toBe(expected !== null);
    if (!expected) return;
    visible += 1;
    expect(Math.abs(seen.get(i)![0] - expected[0])).toBeLessThan(0.2);
    expect(Math.abs(seen.get(i)![1] - expected[1])).toBeLessThan(0.2);
  });
  expect(visible).toBeGreaterThan(100);
  let none = 0;
  scanSpace(frame(), [made], () => null, () => (none += 1));
  expect(none).toBe(0);
});

it("of points that lie over each other the nearest to the eye is meant, and otherwise the closest", () => {
  const f = frame();
  const along = (distance: number) => f.toward.map((v, i) => ORBIT.target[i] + distance * v) as [number, number, number];
  const beside = ORBIT.target.map((v, i) => v + (9 / f.scale) * f.right[i]) as [number, number, number];
  const { tile: made, heights } = tile([along(-3), along(3), along(0), beside]);
  const pick = (left: number, top: number, shown = (_: unknown, i: number) => i >= 0) =>
    pickInSpace(f, [made], () => ({ values: heights }), { left, top, reach: 8, radius: 3 }, shown)?.index;
  expect(pick(600, 400)).toBe(1);
  expect(pick(600, 400, (_, i) => i !== 1)).toBe(2);
  expect(pick(607, 400)).toBe(3);
  expect(pick(640, 440)).toBeUndefined();
});

it("the address keeps an orbit, and leaves out what is none", () => {
  expect(writeAddress({ orbit: null })).toBe("#d=3");
  expect(readAddress("#d=3").orbit).toBeNull();
  const text = writeAddress({ orbit: [-35, 50, 20.25, 1, 2, 0.5], height: 1.5, sparse: true });
  expect(text).toBe("#d=-35,50,20.25,1,2,0.5&h=1.5&e=1");
  expect(readAddress(text)).toEqual({ orbit: [-35, 50, 20.25, 1, 2, 0.5], height: 1.5, sparse: true });
  for (const wrong of ["#d=", "#d=1,2,3", "#d=1,2,0,0,0,0", "#d=1,95,3,0,0,0", "#d=1,2,3,0,0,x"]) expect(readAddress(wrong).orbit).toBeUndefined();
  expect(readAddress("#h=9").height).toBeUndefined();
});

it("an orbit stays where some of the map is seen, and no closer than its steps allow", () => {
  const bounds = { box: { x0: -5, y0: -5, x1: 5, y1: 5 }, side: 10, low: -1, high: 1, widest: 131_072 };
  const size = { width: 1200, height: 800 };
  const orbit = { target: [1, 2, 0.5] as const, turn: 30, tilt: 50, distance: 12 };
  expect(clampOrbit(orbit, bounds, size).target).toEqual(orbit.target);
  expect(clampOrbit(orbit, bounds, size).distance).toBeCloseTo(12, 9);
  const near = clampOrbit({ ...orbit, distance: 1e-12 }, bounds, size);
  expect(scaleOf(near, size) * 10).toBeCloseTo(131_072, 3);
  const far = clampOrbit({ ...orbit, distance: 1e9, target: [1e12, -1e12, 1e12] }, bounds, size);
  expect(scaleOf(far, size) * 10).toBeCloseTo(60, 6);
  const away = clampOrbit({ ...orbit, target: [900, 2, -900] }, bounds, size);
  expect((away.target[0] - 5) * scaleOf(away, size), "of the window's smaller side").toBeCloseTo(320, 6);
  expect((-1 - away.target[2]) * scaleOf(away, size)).toBeCloseTo(320, 6);
});

it("bands are quarters of the ranks", () => {
  expect([0, 63, 64, 128, 191, 192, 255].map(bandOf)).toEqual([0, 0, 1, 2, 2, 3, 3]);
});
