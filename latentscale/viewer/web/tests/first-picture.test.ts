import { describe, expect, it } from "vitest";
import { clusterPalette, emptyPalette, GROUND, setColour, type Rgb } from "../src/engine/colour";
import type { LoadedTile } from "../src/engine/generation";
import { paintPoints } from "../src/map/first-picture";

const RED: Rgb = [200, 40, 20];
const GREY: Rgb = [100, 100, 100];
const SIDE = 33;
/** 33 units of the map, one pixel each, around the middle of a tile of 66. */
const FRAME = { x: 33, y: 33, scale: 1, ratio: 1 };
const MIDDLE = 65536 / 2 - 0.5;

const tile = (points: [x: number, y: number, cluster: number][]): LoadedTile =>
  ({
    count: points.length,
    xy: Float64Array.from(points.flatMap(([x, y]) => [x, y])) as unknown as Uint16Array,
    cluster: Int32Array.from(points.map(([, , cluster]) => cluster)),
    bounds: { x0: 0, y0: 0, x1: 66, y1: 66 },
    steps: 65_536,
    share: 1,
  }) as LoadedTile;

const palette = (shown: (id: number) => boolean) => clusterPalette([{ id: 0, layer: 0 } as never], () => RED, GREY, shown);

function painted(points: [x: number, y: number, cluster: number][], looks: Record<string, unknown> = {}, frame = FRAME) {
  const pixels = { data: new Uint8ClampedArray(4 * SIDE * SIDE), width: SIDE, height: SIDE };
  const all = {
    tiles: [tile(points)],
    clusterPalette: palette(() => true),
    shadePalette: null,
    shades: null,
    lit: () => null,
    growths: null,
    pointSize: 5,
    pointOpacity: 1,
    dimmedOpacity: 0.1,
    plain: false,
    dark: true,
    layered: false,
    ...looks,
  };
  paintPoints(pixels, frame, all as never);
  const at = (column: number, row: number) => [...pixels.data.slice(4 * (row * SIDE + column), 4 * (row * SIDE + column) + 3)];
  const inked = () => {
    let count = 0;
    for (let i = 0; i < pixels.data.length; i += 4) count += Number(pixels.data[i] !== GROUND[all.dark ? "dark" : "light"][0]);
    return count;
  };
  return { at, inked };
}

const over = (ink: Rgb, ground: number[], alpha: number): number[] => ink.map((v, k) => Math.round(v * alpha + ground[k] * (1 - 0.9 * alpha)));

describe("the first picture", () => {
  it("is the ground with a disc at each point", () => {
    const { at, inked } = painted([[MIDDLE, MIDDLE, 0]]);
    expect(at(16, 16)).toEqual(over(RED, GROUND.dark, 1));
    expect(at(18, 16)).toEqual(over(RED, GROUND.dark, 1));
    expect(at(19, 16), "and ends").toEqual(GROUND.dark);
    expect(at(0, 0)).toEqual(GROUND.dark);
    expect(inked()).toBeGreaterThan(15);
    expect(inked()).toBeLessThan(30);
  });

  it("has higher places of the map above lower ones", () => {
    const { at } = painted([[MIDDLE, MIDDLE + 65536 * (10 / 66), 0]]);
    expect(at(16, 6)).toEqual(over(RED, GROUND.dark, 1));
    expect(at(16, 26)).toEqual(GROUND.dark);
  });

  it("counts pixels of the screen, whatever a window's pixels are", () => {
    const twice = painted([[MIDDLE, MIDDLE, 0]], {}, { ...FRAME, ratio: 2 });
    expect(twice.inked()).toBeGreaterThan(3 * painted([[MIDDLE, MIDDLE, 0]]).inked());
  });

  it("shows noise fainter and below, and what is not on the map or not of the part that is drawn not at all", () => {
    expect(painted([[MIDDLE, MIDDLE, -1]], { layered: true }).at(16, 16)).toEqual(over(GREY, GROUND.dark, 0.5));
    const above = painted([[MIDDLE, MIDDLE, 0], [MIDDLE, MIDDLE, -1]], { layered: true }).at(16, 16);
    expect(above).toEqual(over(RED, over(GREY, GROUND.dark, 0.5), 1));
    expect(painted([[MIDDLE, MIDDLE, -2]]).inked()).toBe(0);
    const half = painted([[MIDDLE, MIDDLE, -2], [MIDDLE, MIDDLE, 0]], { tiles: [{ ...tile([[0, 0, 0], [MIDDLE, MIDDLE, 0]]), share: 0.5 }] });
    expect(half.at(16, 16), "the second point is not of the first half").toEqual(GROUND.dark);
  });

  it("dims what is not of the chosen clusters, or was not found", () => {
    const dimmed = painted([[MIDDLE, MIDDLE, 0]], { layered: true, clusterPalette: palette((id) => id < 0) }).at(16, 16);
    const mixed = RED.map((v, k) => 0.15 * v + 0.85 * GREY[k]) as Rgb;
    expect(dimmed).toEqual(over(mixed, GROUND.dark, 0.1));
    expect(painted([[MIDDLE, MIDDLE, 0]], { layered: true, lit: () => Uint8Array.of(0) }).at(16, 16)).toEqual(dimmed);
    expect(painted([[MIDDLE, MIDDLE, 0]], { layered: true, lit: () => Uint8Array.of(1) }).at(16, 16)).toEqual(over(RED, GROUND.dark, 1));
  });

  it("is grey while clusters or a column are not known, and has the shades of a column that is", () => {
    const grey = over(GREY, GROUND.dark, 1);
    expect(painted([[MIDDLE, MIDDLE, 0]], { plain: true, clusterPalette: palette(() => true) }).at(16, 16)).toEqual(grey);
    const shadePalette = emptyPalette(256);
    setColour(shadePalette, 7, [10, 90, 250], 255);
    expect(painted([[MIDDLE, MIDDLE, 0]], { shadePalette, shades: () => null }).at(16, 16)).toEqual(grey);
    expect(painted([[MIDDLE, MIDDLE, 0]], { shadePalette, shades: () => Uint16Array.of(7) }).at(16, 16)).toEqual(over([10, 90, 250], GROUND.dark, 1));
  });

  it("has points as large as their column says", () => {
    expect(painted([[MIDDLE, MIDDLE, 0]], { growths: { of: () => Float32Array.of(2) } }).inked()).toBeGreaterThan(60);
  });
});
