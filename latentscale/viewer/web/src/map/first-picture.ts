/** The first picture: points drawn on the CPU like the deck.gl layer draws them, until deck.gl is loaded. */

import type { LayerProps } from "@deck.gl/core";
import { GROUND } from "../engine/colour";
import { isShown } from "../engine/lod";
import { stepOf } from "../engine/positions";
import type { MapCamera } from "./camera";
import type { PyramidLayerProps } from "./pyramid-layer";

/** RGBA bytes by row, top row first. */
interface Pixels {
  data: Uint8ClampedArray;
  width: number;
  height: number;
}

/** Map position of the centre, pixels per map unit, and the device pixel ratio. */
interface Frame {
  x: number;
  y: number;
  scale: number;
  ratio: number;
}

type LayerLook = Omit<PyramidLayerProps, keyof LayerProps>;

export class FirstPicture {
  private readonly canvas = document.createElement("canvas");

  /** Inserted below the map's canvas, which is transparent until drawn on. */
  constructor(map: HTMLCanvasElement) {
    this.canvas.className = "first-picture";
    this.canvas.setAttribute("aria-hidden", "true");
    map.before(this.canvas);
  }

  paint(camera: MapCamera, looks: LayerLook): void {
    const ratio = devicePixelRatio;
    const { width, height } = camera.size();
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
    const context = this.canvas.getContext("2d", { alpha: false });
    if (!context) return;
    const image = context.createImageData(this.canvas.width, this.canvas.height);
    paintPoints(image, { x: camera.place.x, y: camera.place.y, scale: camera.scale, ratio }, looks);
    context.putImageData(image, 0, 0);
  }

  end(): void {
    this.canvas.remove();
  }
}

/** Paint background and points, following the layer's shaders step by step. */
export function paintPoints(pixels: Pixels, { x, y, scale, ratio }: Frame, looks: LayerLook): void {
  const { data, width, height } = pixels;
  const [red, green, blue] = GROUND[looks.dark ? "dark" : "light"];
  for (let i = 0; i < data.length; i += 4) {
    data[i] = red;
    data[i + 1] = green;
    data[i + 2] = blue;
    data[i + 3] = 255;
  }
  const { clusterPalette, shadePalette, dark } = looks;
  const clusterData = clusterPalette.data;
  const perUnit = scale * ratio;
  for (const under of looks.layered ? [true, false] : [false])
    for (const tile of looks.tiles) {
      const { bounds, xy, cluster, count, share } = tile;
      const mask = looks.lit(tile);
      const shades = looks.shades && looks.shades(tile);
      const growths = looks.growths?.of(tile);
      const left = width / 2 + (bounds.x0 - x) * perUnit;
      const bottom = height / 2 - (bounds.y0 - y) * perUnit;
      const step = stepOf(tile) * perUnit;
      for (let i = 0; i < count; i++) {
        const ownIndex = 4 * (cluster[i] + 1);
        // Removed, or not in the drawn share.
        if (ownIndex < 0 || !isShown(i, share)) continue;
        let shown = clusterData[ownIndex + 3] > 127;
        let palette = clusterData;
        let at = ownIndex;
        let noise = false;
        if (shades && shadePalette) {
          palette = shadePalette.data;
          at = 4 * shades[i];
          shown &&= palette[at + 3] > 127;
        } else if (looks.plain || looks.shades) {
          // Its colour column is missing: draw it grey rather than not at all.
          at = 0;
          shown ||= looks.plain;
        } else noise = ownIndex === 0;
        shown &&= !mask || mask[i] > 0;
        if ((noise || !shown) !== under && looks.layered) continue;
        // Dimmed points keep little of their hue.
        const hue = shown ? 1 : 0.15;
        const mixed = (k: number): number => hue * palette[at + k] + (1 - hue) * clusterData[k];
        const size = looks.pointSize * (noise || !shown ? (noise && !shown ? 0.5625 : 0.75) : 1) * (growths ? growths[i] : 1);
        const alpha = shown ? looks.pointOpacity * (noise ? 0.5 : 1) : looks.dimmedOpacity;
        disc(left + (xy[2 * i] + 0.5) * step, bottom - (xy[2 * i + 1] + 0.5) * step, Math.min(32, Math.max(1, size * ratio)), alpha, mixed(0), mixed(1), mixed(2));
      }
    }

  function disc(across: number, down: number, size: number, alpha: number, r: number, g: number, b: number): void {
    // Additive overshoot of a tenth where discs overlap, away from the background.
    const [colourGain, opacityGain] = dark ? [1, 0.9] : [0.92, 1];
    const reach = (size + 1) / 2;
    const right = Math.min(width - 1, Math.floor(across + reach - 0.5));
    const lowest = Math.min(height - 1, Math.floor(down + reach - 0.5));
    for (let row = Math.max(0, Math.ceil(down - reach - 0.5)); row <= lowest; row++)
      for (let column = Math.max(0, Math.ceil(across - reach - 0.5)); column <= right; column++) {
        const [dx, dy] = [column + 0.5 - across, row + 0.5 - down];
        const cover = alpha * Math.min(1, reach - Math.sqrt(dx * dx + dy * dy));
        if (cover < 0.004) continue;
        const remainder = 1 - opacityGain * cover;
        const place = 4 * (row * width + column);
        data[place] = colourGain * cover * r + remainder * data[place];
        data[place + 1] = colourGain * cover * g + remainder * data[place + 1];
        data[place + 2] = colourGain * cover * b + remainder * data[place + 2];
      }
  }
}
