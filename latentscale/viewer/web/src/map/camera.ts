/** The 2-D camera: projection between map and screen, and animated moves. */

import type { Insets } from "../engine/insets";
import type { Box } from "../engine/lod";

export interface Camera {
  x: number;
  y: number;
  /** log2 of pixels per map unit. */
  zoom: number;
}

/** The map cannot be panned out of the window by more than this share of it. */
const MIN_VISIBLE = 0.1;

export class MapCamera {
  place: Camera = { x: 0, y: 0, zoom: 0 };
  /** `performance.now()` of the last move. */
  moved = 0;
  /** The box that stays fitted to the window until the user moves the map. */
  private held: Box | null = null;
  private animation = 0;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    readonly side: number,
    /** Maximum width of the map in px. */
    private readonly widest: number,
    /** Bounding box of all points. */
    private readonly whole: Box,
    /** Current insets of the view. */
    private readonly insets: () => Insets,
    private readonly changed: () => void,
  ) {}

  get scale(): number {
    return 2 ** this.place.zoom;
  }

  size(): { width: number; height: number } {
    const { clientWidth, clientHeight } = this.canvas;
    return { width: clientWidth || innerWidth, height: clientHeight || innerHeight };
  }

  /** The camera that fits a box into the uncovered part of the window. */
  fit(box: Box): Camera {
    const { width, height } = this.size();
    const { left, right, top, bottom } = this.insets();
    const across = Math.max(box.x1 - box.x0, 1e-9 * this.side);
    const along = Math.max(box.y1 - box.y0, 1e-9 * this.side);
    const zoom = this.clamp(Math.log2(Math.min((width - left - right) / across, (height - top - bottom) / along)));
    const scale = 2 ** zoom;
    return {
      x: (box.x0 + box.x1) / 2 - (left - right) / 2 / scale,
      y: (box.y0 + box.y1) / 2 + (top - bottom) / 2 / scale,
      zoom,
    };
  }

  view(margin = 0): Box {
    const { width, height } = this.size();
    const w = (width / 2 + margin) / this.scale;
    const h = (height / 2 + margin) / this.scale;
    const { x, y } = this.place;
    return { x0: x - w, y0: y - h, x1: x + w, y1: y + h };
  }

  /** Screen position of a map position. */
  project(x: number, y: number): [left: number, top: number] {
    const { width, height } = this.size();
    return [(x - this.place.x) * this.scale + width / 2, height / 2 - (y - this.place.y) * this.scale];
  }

  unproject(left: number, top: number): [x: number, y: number] {
    const { width, height } = this.size();
    return [(left - width / 2) / this.scale + this.place.x, (height / 2 - top) / this.scale + this.place.y];
  }

  set(place: Camera): void {
    this.place = this.within(place);
    this.moved = performance.now();
    this.changed();
  }

  /** Move by user input, which stops any animation. */
  take(place: Camera): void {
    cancelAnimationFrame(this.animation);
    this.held = null;
    this.set(place);
  }

  /** Centre the view, with `span` map units along the smaller side of the window. */
  show([x, y, span]: readonly [number, number, number]): void {
    const { width, height } = this.size();
    this.take({ x, y, zoom: Math.log2(Math.min(width, height) / span) });
  }

  hold(box: Box): void {
    this.held = box;
    this.set(this.fit(box));
  }

  /** Whether the user has not moved the map yet. */
  get untouched(): boolean {
    return this.held !== null;
  }

  resized(): void {
    if (this.held) this.hold(this.held);
  }

  moveTo(place: Camera, milliseconds = 420): void {
    cancelAnimationFrame(this.animation);
    this.held = null;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || milliseconds <= 0) return this.set(place);
    const from = { ...this.place };
    const to = { ...place, zoom: this.clamp(place.zoom) };
    const begin = performance.now();
    const step = (now: number): void => {
      const t = Math.min(1, Math.max(0, (now - begin) / milliseconds));
      const e = 1 - (1 - t) ** 3;
      this.set({
        x: from.x + (to.x - from.x) * e,
        y: from.y + (to.y - from.y) * e,
        zoom: from.zoom + (to.zoom - from.zoom) * e,
      });
      if (t < 1) this.animation = requestAnimationFrame(step);
    };
    this.animation = requestAnimationFrame(step);
  }

  /** The uncovered part of the view, in map units. */
  free(): Box {
    const { width, height } = this.size();
    const { left, right, top, bottom } = this.insets();
    const [x0, y1] = this.unproject(left, top);
    const [x1, y0] = this.unproject(width - right, height - bottom);
    return { x0, y0, x1, y1 };
  }

  /** Centre a position in the uncovered part of the window, unless it is visible there at this zoom. */
  reveal(x: number, y: number, zoom = this.place.zoom): void {
    const { width, height } = this.size();
    const { left, right, top, bottom } = this.insets();
    const [at, down] = this.project(x, y);
    const free = at > left && at < width - right && down > top && down < height - bottom;
    if (free && zoom === this.place.zoom) return;
    const scale = 2 ** this.clamp(zoom);
    this.moveTo({ x: x - (left - right) / 2 / scale, y: y + (top - bottom) / 2 / scale, zoom });
  }

  zoomBy(steps: number): void {
    this.moveTo({ ...this.place, zoom: this.place.zoom + steps }, 180);
  }

  panBy(right: number, up: number): void {
    this.moveTo({ ...this.place, x: this.place.x + right / this.scale, y: this.place.y + up / this.scale }, 140);
  }

  /** Clamp a camera so that part of the map stays visible. */
  private within(place: Camera): Camera {
    const zoom = this.clamp(place.zoom);
    const { width, height } = this.size();
    const reach = (pixels: number): number => ((0.5 - MIN_VISIBLE) * pixels) / 2 ** zoom;
    const { x0, y0, x1, y1 } = this.whole;
    return {
      x: Math.min(Math.max(place.x, x0 - reach(width)), x1 + reach(width)),
      y: Math.min(Math.max(place.y, y0 - reach(height)), y1 + reach(height)),
      zoom,
    };
  }

  private clamp(zoom: number): number {
    return Math.min(Math.log2(this.widest / this.side), Math.max(Math.log2(60 / this.side), zoom));
  }
}
