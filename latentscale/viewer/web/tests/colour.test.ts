import { describe, expect, it } from "vitest";
import { categoryColour, clusterColour, clusterPalette, GROUND, HUES, inkColour, rampColour, type Rgb } from "../src/engine/colour";
import type { Theme } from "../src/engine/colour";
import type { ClusterEntry } from "../src/engine/format";
import { haveFixture, read } from "./files";

const linear = (v: number) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const luminance = (c: Rgb) => 0.2126 * linear(c[0] / 255) + 0.7152 * linear(c[1] / 255) + 0.0722 * linear(c[2] / 255);
const contrast = (a: Rgb, b: Rgb) => {
  const [hi, lo] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (hi + 0.05) / (lo + 0.05);
};

/** Machado, Oliveira and Fernandes 2009, severity 1. */
const SIGHT: Record<string, number[][]> = {
  normal: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

function oklab(rgb: Rgb, sight: number[][]): number[] {
  const lin = rgb.map((v) => linear(v / 255));
  const seen = sight.map((row) => Math.min(1, Math.max(0, row.reduce((sum, w, i) => sum + w * lin[i], 0))));
  const lms = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]]
    .map((row) => Math.cbrt(row.reduce((sum, w, i) => sum + w * seen[i], 0)));
  return [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099], [0.0259040371, 0.7827717662, -0.808675766]]
    .map((row) => row.reduce((sum, w, i) => sum + w * lms[i], 0));
}

describe.each(["dark", "light"] as const)("colours on %s ground", (theme) => {
  it.each(Object.keys(SIGHT))("tell any two of the twelve hues apart with %s", (sight) => {
    const seen = HUES.map((_, hue) => oklab(clusterColour(hue, 0, theme), SIGHT[sight]));
    let least = Infinity;
    for (let i = 0; i < 12; i++) for (let j = 0; j < i; j++) least = Math.min(least, Math.hypot(...seen[i].map((v, k) => v - seen[j][k])));
    expect(least).toBeGreaterThan(sight === "normal" ? 0.12 : 0.075);
  });

  it("stand out from the ground", () => {
    for (let hue = 0; hue < 12; hue++)
      for (const shade of [-1, 0, 1]) expect(contrast(clusterColour(hue, shade, theme), GROUND[theme])).toBeGreaterThan(1.6);
  });

  it("make labels that can be read", () => {
    for (let hue = 0; hue < 12; hue++)
      for (const shade of [-1, 0, 1]) expect(contrast(inkColour(hue, shade, theme), GROUND[theme])).toBeGreaterThan(7);
  });

  it("rise evenly along a ramp, away from the ground", () => {
    const away = Array.from({ length: 21 }, (_, i) => oklab(rampColour(i / 20, theme), SIGHT.normal)[0]);
    for (let i = 1; i < away.length; i++) expect(theme === "dark" ? away[i] - away[i - 1] : away[i - 1] - away[i]).toBeGreaterThan(0.008);
  });

  it("give 64 categories 64 colours", () => {
    expect(new Set(Array.from({ length: 64 }, (_, i) => categoryColour(i, theme).join())).size).toBe(64);
  });
});

it("the palette texture has noise first, a texel a cluster, and dimmed clusters at alpha 0", () => {
  const clusters = [0, 300].map((id) => ({ id, layer: 0, hue: 1, shade: 0 }) as ClusterEntry);
  const palette = clusterPalette(clusters, () => [1, 2, 3], [9, 9, 9], (id) => id !== 0);
  expect([palette.width, palette.height]).toEqual([256, 2]);
  expect([...palette.data.slice(0, 8)]).toEqual([9, 9, 9, 255, 1, 2, 3, 0]);
  expect([...palette.data.slice(4 * 301, 4 * 302)]).toEqual([1, 2, 3, 255]);
});

it.runIf(haveFixture)("clusters have the colours that Python gives them", () => {
  const rows = read<[hue: number, shade: number, theme: Theme, rgb: Rgb][]>("colours.json");
  expect(rows).toHaveLength(120);
  for (const [hue, shade, theme, rgb] of rows) expect([hue, shade, theme, clusterColour(hue, shade, theme)]).toEqual([hue, shade, theme, rgb]);
});
