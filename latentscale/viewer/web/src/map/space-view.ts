/** The 3-D view: transition from and to the flat map, drawing, picking and navigation. */

import { effect } from "@preact/signals";
import { obstacles } from "../obstacles";
import type { ClusterEntry } from "../engine/format";
import type { Generation, LoadedTile } from "../engine/generation";
import { ClusterTally } from "../engine/in-view";
import { insetsOf } from "../engine/insets";
import type { Box } from "../engine/lod";
import { orbitAround, interpolateOrbits, clampOrbit, frameOf, moved, project, scaleOf, turned, type Frame, type Orbit } from "../engine/orbit";
import { MAX_MAP_WIDTH_IN_SPACE, stepOf } from "../engine/positions";
import type { Picked } from "../engine/pick";
import { pickInSpace, scanSpace } from "../engine/space-scan";
import * as state from "../state";
import type { MapCamera } from "./camera";
import { heightOf, Heights } from "./heights";
import { drawMarks } from "./marks";
import type { PyramidLayerProps } from "./pyramid-layer";
import { listenForOrbit, zoomed } from "./space-control";
import { drawGrid, type GridBounds } from "./space-grid";
import { SpaceLabels } from "./space-labels";
import { SpaceLayer, type SpaceLayerProps } from "./space-layer";
import type { Spatial } from "./spatial";

/** The initial view: from the south-west, at an elevated angle. */
const FIRST_ANGLES = { turn: -24, tilt: 56 };
const UNFOLD_MS = 1100;
const MOVE_MS = 420;
/** Idle time before automatic rotation in ms, and its speed in degrees per second. */
const IDLE_MS = 2500;
const TURN_SPEED = 5;
/** Rotation by arrow keys: 12° for a step that pans by 90 px. */
const DEGREES_PER_PIXEL = 12 / 90;

export interface SpaceHost {
  canvas: HTMLCanvasElement;
  labels: HTMLElement;
  overlay: SVGSVGElement;
  camera: MapCamera;
  generations: readonly Generation[];
  body: Box;
  whole: Box;
  tiles(): readonly LoadedTile[];
  shows(tile: LoadedTile, index: number): boolean;
  pointSize(): number;
  redraw(): void;
  /** The content under the pointer has changed. */
  shifted(): void;
  /** The user moved the map. */
  steered(): void;
  problem(error: Error): void;
}

export class SpaceView implements Spatial {
  private readonly labels: SpaceLabels;
  private readonly grid = document.getElementById("grid") as unknown as SVGSVGElement;
  private readonly stops: (() => void)[] = [];
  /** Known heights by flat position, including points whose tile is not drawn. */
  private readonly knownHeights = new Map<string, number>();
  private orbit: Orbit;
  /** Progress of the transition from the flat map, 0 to 1. */
  private share = 0;
  private room: GridBounds;
  private middle: number;
  /** Number of root tiles that `room` and `middle` were measured from. */
  private roots = 0;
  private touched = false;
  private acted = performance.now();
  private animation = 0;
  private turn = 0;

  /**
   * Create the view once the drawn tiles have heights, so that the transition shows them; null if no longer wanted.
   */
  static async open(host: SpaceHost, wanted: () => boolean): Promise<SpaceView | null> {
    const heights = new Heights(host.problem);
    await heights.ready(host.tiles());
    return wanted() ? new SpaceView(host, heights) : null;
  }

  private constructor(
    private readonly host: SpaceHost,
    private readonly heights: Heights,
  ) {
    const [low, high] = [0, 1].map((i) => host.generations.reduce((sum, { entry }) => (i ? Math.max : Math.min)(sum, entry.z![i]), i ? -Infinity : Infinity));
    this.middle = (low + high) / 2;
    this.room = { floor: host.body, low, high };
    heights.changed = () => host.redraw();
    this.measure(host.tiles());
    this.labels = new SpaceLabels(host.labels);
    this.reset();
    this.orbit = this.clampedOrbit(state.orbit.value ?? this.firstOrbit());
    this.stops.push(
      listenForOrbit(host.canvas, { orbit: () => this.orbit, size: () => host.camera.size(), take: (orbit) => this.take(orbit) }),
      effect(() => {
        const orbit = state.orbit.value;
        if (orbit && orbit !== this.orbit) this.fly(orbit, 0);
      }),
      effect(() => {
        void [state.heightFactor.value, state.sizeBySparsity.value, state.gridShown.value, state.pinned.value];
        host.redraw();
      }),
      effect(() => {
        cancelAnimationFrame(this.turn);
        if (state.turning.value) this.turn = requestAnimationFrame((now) => this.autoRotate(now, now));
        else if (this.touched) this.publishOrbit();
      }),
    );
    this.unfold(1, () => undefined);
  }

  drawable(tiles: readonly LoadedTile[]) {
    const ready: LoadedTile[] = [];
    const failed: LoadedTile[] = [];
    let loading = false;
    for (const tile of tiles) {
      if (this.heights.of(tile)) ready.push(tile);
      else if (this.heights.isMissing(tile)) failed.push(tile);
      else loading = true;
    }
    // Measured here, not when heights arrive: the result must not depend on the loading order.
    if (ready.filter(({ info }) => info.z === 0).length !== this.roots) this.measure(ready);
    return { tiles: ready, loading, failed };
  }

  scale(): number {
    return this.frame().scale;
  }

  layer(props: PyramidLayerProps & { id: string }): SpaceLayer {
    const { share } = this;
    const flatShare = 1 - share;
    return new SpaceLayer({
      ...props,
      id: "space",
      frame: this.frame(),
      reach: this.reach(),
      share,
      uneven: state.sizeBySparsity.value,
      heights: (tile: LoadedTile) => this.heights.of(tile),
      // Opaque in 3-D, so that points occlude each other.
      pointOpacity: props.pointOpacity * flatShare + 0.96 * share * Math.min(1, state.opacityFactor.value),
      pointSize: props.pointSize * (1 + 0.25 * share),
      dimmedOpacity: props.dimmedOpacity + 0.04 * share,
    } as SpaceLayerProps);
  }

  placeOverlays(pointSize: number): void {
    const frame = this.frame();
    this.labels.place(frame, this.reach());
    const pinned = state.pinned.value;
    const height = pinned && this.heightAt(pinned);
    if (state.gridShown.value) drawGrid(this.grid, frame, this.room, this.share, pinned && height !== null ? [pinned.x, pinned.y, height] : null);
    else this.grid.replaceChildren();
    drawMarks(
      this.host.overlay,
      {
        // Outlines are drawn on the floor, below their clusters.
        project: (x, y) => this.at(frame, x, y, this.room.low) ?? [-99, -99],
        onScreen: (point) => this.place(frame, point),
      },
      pointSize * (1 + 0.25 * this.share),
    );
  }

  pick(left: number, top: number, reach: number): Picked<LoadedTile> | null {
    const radius = Math.max(3, this.host.pointSize() / 2);
    const { tiles, shows } = this.host;
    return pickInSpace(this.frame(), tiles(), (tile) => this.heights.of(tile), { left, top, reach: Math.max(reach, radius), radius }, shows);
  }

  project(point: state.Point): [number, number] | null {
    return this.place(this.frame(), point);
  }

  reveal(point: state.Point): void {
    const height = this.heightAt(point);
    if (height === null) return;
    const { width, height: tall } = this.host.camera.size();
    const at = this.project(point);
    const { left, right, top, bottom } = this.insets();
    if (at && at[0] > left && at[0] < width - right && at[1] > top && at[1] < tall - bottom) return;
    this.fly(this.centred({ ...this.orbit, target: [point.x, point.y, height * state.heightFactor.value] }), MOVE_MS);
  }

  labelAt(left: number, top: number): ClusterEntry | null {
    return this.labels.at(left, top);
  }

  count(): number {
    const { width, height } = this.host.camera.size();
    let points = 0;
    scanSpace(this.frame(), this.host.tiles(), (tile) => this.heights.of(tile), (_tile, _i, left, top) => {
      if (left >= 0 && top >= 0 && left <= width && top <= height) points += 1;
    });
    return points;
  }

  clusters(): Map<number, number> {
    const { width, height } = this.host.camera.size();
    const { left: l, right: r, top: t, bottom: b } = this.insets();
    const tally = new ClusterTally();
    scanSpace(this.frame(), this.host.tiles(), (tile) => this.heights.of(tile), (tile, i, left, top) => {
      if (left >= l && top >= t && left <= width - r && top <= height - b) tally.add(tile.cluster[i]);
    });
    return tally.counts();
  }

  list(limit: number): { rows: state.Row[]; all: number } {
    const { width, height } = this.host.camera.size();
    const { left: l, right: r, top: t, bottom: b } = this.insets();
    const [mx, my] = [(l + width - r) / 2, (t + height - b) / 2];
    const found: { row: state.Row; apart: number }[] = [];
    scanSpace(this.frame(), this.host.tiles(), (tile) => this.heights.of(tile), (tile, i, left, top) => {
      if (left < l || top < t || left > width - r || top > height - b || !this.host.shows(tile, i)) return;
      found.push({ row: { generation: tile.generation, position: tile.info.first + i }, apart: (left - mx) ** 2 + (top - my) ** 2 });
    });
    found.sort((a, b) => a.apart - b.apart);
    return { rows: found.slice(0, limit).map(({ row }) => row), all: found.length };
  }

  pan(right: number, up: number, move: boolean): void {
    const scale = scaleOf(this.orbit, this.host.camera.size());
    this.fly(move ? moved(this.orbit, -right / scale, up / scale) : turned(this.orbit, DEGREES_PER_PIXEL * right, DEGREES_PER_PIXEL * up), 140);
  }

  zoom(steps: number): void {
    this.fly(zoomed(this.orbit, 2 ** steps, this.host.camera.size()), 180);
  }

  home(): void {
    this.fly(this.fitted(this.host.body, FIRST_ANGLES), MOVE_MS);
  }

  whole(): void {
    this.fly(this.fitted(this.host.whole, this.orbit), MOVE_MS);
  }

  show(cluster: ClusterEntry, size: number): void {
    const box = { x0: cluster.x! - size / 2, x1: cluster.x! + size / 2, y0: cluster.y! - size / 2, y1: cluster.y! + size / 2 };
    const height = (cluster.z ?? this.middle) * state.heightFactor.value;
    this.fly(orbitAround(box, height, this.host.camera.size(), this.insets(), this.orbit), MOVE_MS);
  }

  reset(): void {
    this.labels.reset(state.labels.value?.clusters ?? []);
  }

  resized(): void {
    if (!this.touched && !state.orbit.peek()) this.orbit = this.firstOrbit();
    this.host.redraw();
  }

  retry(tiles: readonly LoadedTile[]): void {
    this.heights.retry(tiles);
  }

  leave(done: () => void): void {
    const { camera } = this.host;
    if (this.touched) {
      const [x, y] = this.orbit.target;
      camera.take({ x, y, zoom: Math.log2(scaleOf(this.orbit, camera.size())) });
    }
    this.unfold(0, done);
  }

  end(): void {
    cancelAnimationFrame(this.animation);
    cancelAnimationFrame(this.turn);
    for (const stop of this.stops) stop();
    this.labels.reset([]);
    this.grid.replaceChildren();
  }

  private frame(): Frame {
    const { camera } = this.host;
    return frameOf(this.orbit, camera.size(), state.heightFactor.value, { ...camera.place, scale: camera.scale }, this.share);
  }

  /** Maximum distance of points from the target in depth. */
  private reach(): number {
    const { whole } = this.host;
    const [x, y] = this.orbit.target;
    const farthest = Math.hypot(Math.max(x - whole.x0, whole.x1 - x), Math.max(y - whole.y0, whole.y1 - y));
    return 1.05 * Math.max(farthest, this.room.high * state.heightFactor.value);
  }

  /** Clamp an orbit so that the map stays visible. */
  private clampedOrbit(orbit: Orbit): Orbit {
    const { camera, whole, generations } = this.host;
    const factor = state.heightFactor.value;
    const heights = generations.flatMap(({ entry }) => entry.z!.map((z) => z * factor));
    return clampOrbit(
      orbit,
      { box: whole, side: camera.side, low: Math.min(...heights), high: Math.max(...heights), widest: MAX_MAP_WIDTH_IN_SPACE },
      camera.size(),
    );
  }

  private insets() {
    return insetsOf(this.host.camera.size(), obstacles.value);
  }

  /** The initial orbit: the flat map's view, or the fitted map if it was not moved. */
  private firstOrbit(): Orbit {
    const { camera, body } = this.host;
    if (camera.untouched) return this.fitted(body, FIRST_ANGLES);
    const { x, y } = camera.place;
    const distance = scaleOf({ target: [x, y, 0], ...FIRST_ANGLES, distance: 1 }, camera.size()) / camera.scale;
    return { target: [x, y, this.middle * state.heightFactor.value], ...FIRST_ANGLES, distance };
  }

  private fitted(box: Box, angles: { turn: number; tilt: number }): Orbit {
    return orbitAround(box, this.middle * state.heightFactor.value, this.host.camera.size(), this.insets(), angles);
  }

  /** The orbit with its target centred in the uncovered part of the window. */
  private centred(orbit: Orbit): Orbit {
    const { left, right, top, bottom } = this.insets();
    const scale = scaleOf(orbit, this.host.camera.size());
    return moved(orbit, (left - right) / 2 / scale, (top - bottom) / 2 / scale);
  }

  /** Measure floor, ceiling and median height from loaded heights, ignoring outliers. */
  private measure(tiles: readonly LoadedTile[]): void {
    const found: number[] = [];
    this.roots = 0;
    for (const tile of tiles) {
      const values = tile.info.z === 0 ? this.heights.of(tile)?.values : undefined;
      if (!values) continue;
      this.roots += 1;
      for (let i = 0; i < values.length; i += 2) found.push(values[i]);
    }
    if (!found.length) return;
    found.sort((a, b) => a - b);
    const at = (share: number): number => found[Math.min(found.length - 1, Math.floor(share * found.length))];
    const margin = 0.08 * (at(0.98) - at(0.02));
    this.room = { floor: this.host.body, low: at(0.02) - margin, high: at(0.98) + margin };
    const middle = at(0.5);
    if (middle === this.middle) return;
    this.middle = middle;
    if (!this.touched && !state.orbit.peek()) this.orbit = this.firstOrbit();
    this.host.redraw();
  }

  private at(frame: Frame, x: number, y: number, z: number): [number, number] | null {
    const at = project(frame, x, y, z);
    return at && [at[0], at[1]];
  }

  private place(frame: Frame, point: state.Point): [number, number] | null {
    const height = this.heightAt(point);
    return height === null ? null : this.at(frame, point.x, point.y, height);
  }

  /** Height of a point given by its flat position; null while unknown. */
  private heightAt(point: state.Point & { generation?: number; position?: number }): number | null {
    if (point.z !== undefined) return point.z;
    const key = `${point.x} ${point.y}`;
    const known = this.knownHeights.get(key);
    if (known !== undefined) return known;
    for (const tile of this.host.tiles()) {
      const { bounds, xy, count } = tile;
      const values = this.heights.of(tile)?.values;
      if (!values || point.x < bounds.x0 || point.x > bounds.x1 || point.y < bounds.y0 || point.y > bounds.y1) continue;
      const step = stepOf(tile);
      const [x, y] = [Math.round((point.x - bounds.x0) / step - 0.5), Math.round((point.y - bounds.y0) / step - 0.5)];
      for (let i = 0; i < count; i++) {
        if (xy[2 * i] !== x || xy[2 * i + 1] !== y) continue;
        this.knownHeights.set(key, values[2 * i]);
        return values[2 * i];
      }
    }
    if (point.generation !== undefined && point.position !== undefined) void this.readHeight(key, point.generation, point.position);
    return null;
  }

  /** Read the height of a document whose tile is not drawn. */
  private async readHeight(key: string, number: number, position: number): Promise<void> {
    try {
      const generation = this.host.generations[number];
      const info = await generation.tileOf(position);
      const steps = await generation.column(info, "z");
      this.knownHeights.set(key, heightOf(generation.entry, steps[position - info.first]));
      this.host.redraw();
    } catch (error) {
      this.host.problem(error as Error);
    }
  }

  /** Apply user input, which stops animations. */
  private take(orbit: Orbit): void {
    cancelAnimationFrame(this.animation);
    this.share = 1;
    this.acted = performance.now();
    this.touched = true;
    this.orbit = this.clampedOrbit(orbit);
    this.publishOrbit();
    this.host.shifted();
    this.host.redraw();
    this.host.steered();
  }

  /** Publish the orbit, so that the address is updated. */
  private publishOrbit(): void {
    if (state.orbit.peek() !== this.orbit) state.orbit.value = this.orbit;
  }

  private fly(orbit: Orbit, milliseconds: number): void {
    const from = this.orbit;
    const to = this.clampedOrbit(orbit);
    this.touched = true;
    this.acted = performance.now();
    this.animate(milliseconds, (t) => {
      this.orbit = t < 1 ? interpolateOrbits(from, to, t) : to;
      if (t < 1) return;
      this.share = 1;
      this.publishOrbit();
      this.host.shifted();
      this.host.steered();
    });
  }

  private unfold(to: number, done: () => void): void {
    const from = this.share;
    this.animate(UNFOLD_MS * Math.abs(to - from), (t) => {
      this.share = from + (to - from) * t;
      if (t === 1) done();
    });
  }

  /** Run an animation, replacing any other; `step` is called with the progress from 0 to 1. */
  private animate(milliseconds: number, step: (t: number) => void): void {
    cancelAnimationFrame(this.animation);
    const { camera } = this.host;
    if (milliseconds <= 0 || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      step(1);
      this.host.redraw();
      return;
    }
    const begin = performance.now();
    const tick = (now: number): void => {
      const t = Math.min(1, Math.max(0, (now - begin) / milliseconds));
      camera.moved = now;
      if (t < 1) this.animation = requestAnimationFrame(tick);
      step(t < 0.5 ? 4 * t ** 3 : 1 - (2 - 2 * t) ** 3 / 2);
      this.host.redraw();
    };
    this.animation = requestAnimationFrame(tick);
  }

  /** Rotate automatically while the map is idle. */
  private autoRotate(now: number, before: number): void {
    this.turn = requestAnimationFrame((next) => this.autoRotate(next, now));
    if (this.share < 1 || now - this.acted < IDLE_MS || state.hovered.value || state.pinned.value || document.hidden) return;
    this.orbit = turned(this.orbit, (TURN_SPEED * Math.min(100, now - before)) / 1000);
    this.host.camera.moved = now;
    this.host.shifted();
    this.host.redraw();
  }
}
