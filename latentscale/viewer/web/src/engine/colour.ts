/** Colours: twelve hues in OKLCH with shades, ramps, and the bytes of palette textures. */

// Shared with the images that Python renders.
import shared from "../../../palette.json";

export type Theme = "dark" | "light";
export type Rgb = [number, number, number];

/**
 * Lightness, chroma and hue on a light background. Found by maximising the smallest distance between any two of the
 * twelve, over normal vision and (Machado et al. 2009, severity 1) protanopia, deuteranopia and tritanopia, on light
 * and dark backgrounds: 0.134 in OKLab with normal vision, 0.083 with the others (tests/colour.test.ts).
 */
export const HUES = shared.hues as [number, number, number][];
const LIFT: Record<Theme, number> = shared.lift;
export const GROUND = shared.ground as Record<Theme, Rgb>;
export const NOISE = shared.noise as Record<Theme, Rgb>;
export const NULL_COLOUR = shared.no_value as Record<Theme, Rgb>;

/** OKLCH to sRGB bytes; `h` in degrees. Out-of-gamut colours lose chroma. */
export function oklch(l: number, c: number, h: number): Rgb {
  const angle = (h * Math.PI) / 180;
  // Outside the sRGB gamut: reduce the chroma, keep lightness and hue.
  for (let chroma = c; ; chroma *= 0.92) {
    const rgb = oklab(l, chroma * Math.cos(angle), chroma * Math.sin(angle));
    if (chroma < 0.002 || rgb.every((v) => v >= -0.002 && v <= 1.002))
      return rgb.map((v) => Math.round(255 * gamma(Math.min(1, Math.max(0, v))))) as Rgb;
  }
}

function oklab(l: number, a: number, b: number): Rgb {
  const l3 = (l + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m3 = (l - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s3 = (l - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l3 - 3.3077115913 * m3 + 0.2309699292 * s3,
    -1.2684380046 * l3 + 2.6097574011 * m3 - 0.3413193965 * s3,
    -0.0041960863 * l3 - 0.7034186147 * m3 + 1.707614701 * s3,
  ];
}

const gamma = (v: number): number => (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055);

/** A cluster's colour: its hue, varied by its shade (-1 to 1). */
export function clusterColour(hue: number, shade: number, theme: Theme): Rgb {
  const [l, c, h] = HUES[((hue % 12) + 12) % 12];
  return oklch(l + LIFT[theme] + 0.055 * shade, c * (1 - 0.12 * Math.abs(shade)), h + 11 * shade);
}

/** The cluster's hue for text: dark on a light background, light on a dark one. */
export function inkColour(hue: number, shade: number, theme: Theme): Rgb {
  const [, c, h] = HUES[((hue % 12) + 12) % 12];
  return theme === "dark" ? oklch(0.88 + 0.02 * shade, Math.min(c, 0.075), h + 8 * shade) : oklch(0.36 + 0.02 * shade, Math.min(c, 0.1), h + 8 * shade);
}

/** Colours for categories: the twelve hues, then lighter and darker variants. */
export function categoryColour(code: number, theme: Theme): Rgb {
  const cycle = Math.floor(code / 12);
  return clusterColour(code % 12, cycle === 0 ? 0 : cycle % 2 ? -1.6 * Math.ceil(cycle / 2) * 0.7 : 1.6 * (cycle / 2) * 0.7, theme);
}

/** Colours for generations: the first grey, later ones along the ramp, the last with the highest contrast. */
export function addedColour(number: number, generations: number, theme: Theme): Rgb {
  if (number === 0) return NOISE[theme];
  return rampColour(generations > 2 ? 0.35 + (0.6 * Math.min(number - 1, generations - 2)) / (generations - 2) : 0.95, theme);
}

/** A sequential ramp with monotonic lightness, which ends with the highest contrast to the background. */
export function rampColour(t: number, theme: Theme): Rgb {
  const u = Math.min(1, Math.max(0, t));
  // Through blue, green and yellow; lightness changes evenly, so the order survives in greyscale.
  const hue = 285 - 195 * u;
  return theme === "dark" ? oklch(0.42 + 0.5 * u, 0.11 + 0.05 * Math.sin(Math.PI * u), hue) : oklch(0.8 - 0.48 * u, 0.11 + 0.04 * Math.sin(Math.PI * u), 95 + 190 * u);
}

/** A colour as CSS; `alpha` from 0 to 1. */
export const css = ([r, g, b]: Rgb, alpha = 1): string =>
  alpha === 1 ? `rgb(${r} ${g} ${b})` : `rgb(${r} ${g} ${b} / ${alpha})`;

export const PALETTE_WIDTH = 256;

export interface Palette {
  width: number;
  height: number;
  data: Uint8Array;
}

/** A transparent palette texture with room for `colours` texels. */
export function emptyPalette(colours: number): Palette {
  const height = Math.max(1, Math.ceil(colours / PALETTE_WIDTH));
  return { width: PALETTE_WIDTH, height, data: new Uint8Array(4 * PALETTE_WIDTH * height) };
}

export function setColour(palette: Palette, index: number, rgb: Rgb, alpha: number): void {
  palette.data.set([...rgb, alpha], 4 * index);
}

/**
 * One texel per cluster of layer 0, at `id + 1`; texel 0 is noise. Alpha is 255 for shown clusters, 0 for dimmed ones.
 */
export function clusterPalette<T extends { id: number; layer: number }>(
  clusters: readonly T[],
  colourOf: (cluster: T) => Rgb,
  noise: Rgb,
  shown: (id: number) => boolean,
): Palette {
  const fine = clusters.filter((cluster) => cluster.layer === 0);
  const last = fine.reduce((most, cluster) => Math.max(most, cluster.id), -1);
  const palette = emptyPalette(last + 2);
  setColour(palette, 0, noise, shown(-1) ? 255 : 0);
  for (const cluster of fine) setColour(palette, cluster.id + 1, colourOf(cluster), shown(cluster.id) ? 255 : 0);
  return palette;
}
