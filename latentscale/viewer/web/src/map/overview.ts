/** The overview map: a small picture of the whole map that shows the current view, and navigates on click. */

import { obstacleRef } from "../obstacles";
import type { LoadedTile } from "../engine/generation";
import type { Box } from "../engine/lod";
import { stepOf } from "../engine/positions";
import { viewFrame, overviewBox } from "../engine/overview";
import type { MapCamera } from "./camera";
import type { Shading } from "./shading";

/** Maximum width and height in px. */
const MAX_SIZE = { width: 168, height: 132 };
/** Minimum size of the view rectangle in px, to stay visible. */
const MIN_FRAME = 6;

export class Overview {
  private readonly root = document.createElement("div");
  private readonly canvas = document.createElement("canvas");
  private readonly frame = document.createElement("div");
  private readonly box: Box;
  private readonly size: { width: number; height: number };
  private readonly covered = obstacleRef(null);
  private drawn: readonly unknown[] = [];

  constructor(
    stage: HTMLElement,
    private readonly camera: MapCamera,
    body: Box,
  ) {
    ({ box: this.box, ...this.size } = overviewBox(body, MAX_SIZE));
    this.root.className = "card overview";
    this.root.setAttribute("aria-hidden", "true");
    this.root.title = "The whole map, and the part that is in the window: press to go there";
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(this.size.width * ratio);
    this.canvas.height = Math.round(this.size.height * ratio);
    this.canvas.style.width = `${this.size.width}px`;
    this.canvas.style.height = `${this.size.height}px`;
    this.root.append(this.canvas, this.frame);
    this.root.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.root.setPointerCapture(event.pointerId);
      this.go(event, 200);
    });
    this.root.addEventListener("pointermove", (event) => {
      if (this.root.hasPointerCapture(event.pointerId)) this.go(event, 0);
    });
    stage.append(this.root);
    this.covered(this.root);
  }

  /** Centre the pressed position in the uncovered part of the window. */
  private go(event: PointerEvent, milliseconds: number): void {
    const { left, top } = this.canvas.getBoundingClientRect();
    const { box, size, camera } = this;
    const x = box.x0 + ((event.clientX - left) / size.width) * (box.x1 - box.x0);
    const y = box.y1 - ((event.clientY - top) / size.height) * (box.y1 - box.y0);
    const free = camera.free();
    const { place } = camera;
    camera.moveTo({ x: x + place.x - (free.x0 + free.x1) / 2, y: y + place.y - (free.y0 + free.y1) / 2, zoom: place.zoom }, milliseconds);
  }

  /** Draw the root tiles' points in the map's colours; dimmed ones are left out. */
  draw(roots: readonly LoadedTile[], shading: Shading): void {
    const looks = [...roots, shading.clusters, shading.shades, shading.key, shading.revision];
    if (looks.length === this.drawn.length && looks.every((one, i) => one === this.drawn[i])) return;
    this.drawn = looks;
    const { width, height } = this.canvas;
    const picture = new ImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer);
    const { box } = this;
    const across = width / (box.x1 - box.x0);
    const along = height / (box.y1 - box.y0);
    for (const tile of roots) {
      const { bounds, xy, count, cluster } = tile;
      const step = stepOf(tile);
      const shades = shading.shades && shading.of(tile);
      const colours = new Uint32Array((shades ? shading.shades! : shading.clusters).data.slice().buffer);
      for (let i = 0; i < count; i++) {
        if (!shading.shows(tile, i)) continue;
        const left = Math.floor((bounds.x0 + xy[2 * i] * step - box.x0) * across);
        const top = Math.floor((box.y1 - bounds.y0 - xy[2 * i + 1] * step) * along);
        if (left >= 0 && top >= 0 && left < width && top < height) pixels[top * width + left] = colours[shades ? shades[i] : cluster[i] + 1];
      }
    }
    this.canvas.getContext("2d")!.putImageData(picture, 0, 0);
  }

  /** Place the rectangle of the current view. */
  place(): void {
    const { left, top, width, height, beyond } = viewFrame(this.box, this.size, this.camera.free(), MIN_FRAME);
    this.frame.classList.toggle("beyond", beyond);
    Object.assign(this.frame.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
  }

  end(): void {
    this.root.remove();
    this.covered(null);
  }
}
