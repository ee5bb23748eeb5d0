/** Density raster of all documents, drawn behind the points of a large map while these are a sample. */

import { decodeColumn } from "../engine/parquet";
import type { Generation } from "../engine/generation";
import { decodeFile } from "../engine/store";
import * as state from "../state";
import type { MapCamera } from "./camera";

/** Value of the densest cell. */
const MAX_VALUE = 252;
/** Shown while less than this share of the documents is drawn. */
const MAX_RATE = 0.7;
/** Cell sizes in px at which the raster starts to fade and disappears: larger cells would be visible as squares. */
const FADE_START = 12;
const FADE_END = 28;
/** Exponent of the opacity by density, so that outliers do not form a cloud. */
const POWER = 1.5;
const INK = { dark: { rgb: [196, 206, 224], most: 0.42 }, light: { rgb: [60, 66, 84], most: 0.3 } } as const;

export class Raster {
  private readonly canvas = document.createElement("canvas");
  private values: Float32Array | null = null;
  private asked = false;
  private painted = "";

  /** Inserted below the map's canvas, which is transparent between points. */
  constructor(
    map: HTMLCanvasElement,
    private readonly generation: Generation,
    private readonly camera: MapCamera,
    private readonly changed: () => void,
  ) {
    this.canvas.className = "raster";
    this.canvas.setAttribute("aria-hidden", "true");
    this.canvas.hidden = true;
    map.parentElement!.prepend(this.canvas);
  }

  /** Place the raster, or hide it; `rate` is the share of documents drawn. Returns whether it is visible. */
  place(rate: number, wanted: boolean): boolean {
    const { entry, tree } = this.generation;
    const cells = entry.raster ?? 0;
    const bounds = tree.bounds({ z: 0, x: 0, y: 0 });
    const { scale } = this.camera;
    const cell = (entry.side / cells) * scale;
    const seen = wanted && cells > 0 && rate < MAX_RATE && cell < FADE_END;
    if (seen && !this.asked) void this.read(cells);
    if (!seen || !this.values) {
      this.canvas.hidden = true;
      return false;
    }
    this.paint(cells);
    const [left, top] = this.camera.project(bounds.x0, bounds.y1);
    this.canvas.style.transform = `translate(${left}px, ${top}px) scale(${cell})`;
    this.canvas.style.opacity = Math.min(1, (FADE_END - cell) / (FADE_END - FADE_START)).toFixed(3);
    this.canvas.hidden = false;
    return true;
  }

  retry(): void {
    if (!this.values) this.asked = false;
  }

  end(): void {
    this.canvas.remove();
  }

  private async read(cells: number): Promise<void> {
    this.asked = true;
    try {
      const name = "density.parquet";
      const bytes = await this.generation.bytes(name);
      this.values = await decodeFile(this.generation.name(name), () => decodeColumn(bytes, cells * cells));
    } catch (error) {
      state.report("The density of all documents", error as Error);
    }
    this.changed();
  }

  private paint(cells: number): void {
    const theme = state.theme.value;
    if (this.painted === theme) return;
    this.painted = theme;
    const { rgb, most } = INK[theme];
    this.canvas.width = this.canvas.height = cells;
    const picture = new ImageData(cells, cells);
    const { data } = picture;
    this.values!.forEach((value, i) => {
      // Rows are stored bottom to top.
      const at = 4 * ((cells - 1 - Math.floor(i / cells)) * cells + (i % cells));
      data.set(rgb, at);
      data[at + 3] = 255 * (value / MAX_VALUE) ** POWER * most;
    });
    this.canvas.getContext("2d")!.putImageData(picture, 0, 0);
  }
}
