/** The canvas: camera, tiles, palettes, picking, and what floats above the points. */

import { Deck, OrthographicView } from "@deck.gl/core";
import { effect } from "@preact/signals";
import {
  clusterColour,
  clusterPalette,
  categoryColour,
  css,
  emptyPalette,
  inkColour,
  NOISE,
  NULL_COLOUR,
  rampColour,
  setColour,
  type Palette,
} from "../engine/colour";
import type { ClusterEntry } from "../engine/format";
import type { Generation, LoadedTile } from "../engine/generation";
import { labelOrder, visibleLabels } from "../engine/labels";
import type { Box } from "../engine/lod";
import { pickNearest, type Picked } from "../engine/pick";
import { NO_VALUE, RAMP, shadeIndex } from "../engine/scale";
import * as state from "../state";
import { TileLoader } from "./loader";
import { PyramidLayer } from "./pyramid-layer";

const DWELL = 120;
const REACH = 8;
/** A tile is opened when its edge is as many pixels on the screen. */
const MIN_EDGE = 150;
const BUDGET = { desktop: 2_000_000, mobile: 500_000, software: 50_000 };
const SVG = "http://www.w3.org/2000/svg";

export interface Camera {
  x: number;
  y: number;
  zoom: number;
}

interface Elements {
  canvas: HTMLCanvasElement;
  labels: HTMLElement;
  overlay: SVGSVGElement;
}

export class MapView {
  camera: Camera = { x: 0, y: 0, zoom: 0 };
  budget = matchMedia("(pointer: coarse)").matches ? BUDGET.mobile : BUDGET.desktop;
  onCamera: () => void = () => undefined;

  private readonly deck: Deck<OrthographicView>;
  private readonly loader: TileLoader;
  private tiles: LoadedTile[] = [];
  private clusterTexture: Palette = emptyPalette(2);
  private shadeTexture: Palette | null = null;
  private shadeKey = "";
  private readonly columns = new Map<string, Float32Array | "loading" | "missing">();
  private readonly shadeArrays = new WeakMap<LoadedTile, { key: string; values: Uint16Array }>();
  private ordered: ClusterEntry[] = [];
  private readonly labelNodes = new Map<ClusterEntry, HTMLElement>();
  private pointSize = 2;
  private dwell = 0;
  private animation = 0;
  private scheduled = 0;
  private pointer: { x: number; y: number } | null = null;
  private moving = 0;
  private lastFrame = 0;
  private slowFrames = 0;
  private fitted: Box | null = null;

  constructor(
    private readonly elements: Elements,
    private readonly generations: readonly Generation[],
    start: Camera | null,
    view: Box,
  ) {
    this.loader = new TileLoader(
      generations,
      () => this.refresh(),
      (error) => (state.notice.value = error.message),
    );
    this.camera = start ?? this.fit(view);
    this.fitted = start ? null : view;
    const budget = Number(new URLSearchParams(location.search).get("budget"));
    if (budget >= 1000) this.budget = budget;
    this.deck = new Deck({
      canvas: elements.canvas,
      width: "100%",
      height: "100%",
      views: new OrthographicView({ id: "map", flipY: false }),
      controller: { scrollZoom: { speed: 0.01, smooth: true }, inertia: 220, doubleClickZoom: true, keyboard: false },
      viewState: this.viewState(),
      layers: [],
      onViewStateChange: ({ viewState }) => {
        const { target, zoom } = viewState as { target: number[]; zoom: number };
        this.fitted = null;
        cancelAnimationFrame(this.animation);
        this.setCamera({ x: target[0], y: target[1], zoom });
        return viewState;
      },
      onDeviceInitialized: (device) => {
        if (budget < 1000 && (device.info.gpu === "software" || /swiftshader|llvmpipe|software/i.test(device.info.renderer))) {
          this.budget = BUDGET.software;
          this.refresh();
        }
        device.lost.then(() => this.lost());
      },
      onResize: () => {
        if (this.fitted) this.setCamera(this.fit(this.fitted));
        this.refresh();
      },
      onAfterRender: () => this.afterRender(),
      onError: (error) => {
        if (!state.manifest.value || !this.lastFrame) this.failed(error);
        else state.notice.value = `The drawing went wrong: ${error.message}`;
      },
      getCursor: ({ isDragging }) => (isDragging ? "grabbing" : state.hovered.value ? "pointer" : "grab"),
    });
    elements.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.lost();
    });
    this.listen();
    effect(() => this.updatePalettes());
    effect(() => {
      this.ordered = labelOrder(state.labels.value?.clusters ?? []);
      for (const node of this.labelNodes.values()) node.remove();
      this.labelNodes.clear();
      void state.theme.value;
      this.refresh();
    });
    effect(() => {
      void [state.sizeFactor.value, state.opacityFactor.value, state.pinned.value, state.hovered.value];
      void [state.pointed.value, state.isolated.value, state.details.value];
      this.refresh();
    });
  }

  /** The camera that shows a box, clear of the list at the side. */
  fit(box: Box): Camera {
    const { width, height } = this.size();
    const left = state.panelOpen.value && width > 800 ? 320 : 0;
    const zoom = Math.log2(
      Math.min((width - left - 48) / Math.max(box.x1 - box.x0, 1e-9), (height - 72) / Math.max(box.y1 - box.y0, 1e-9)),
    );
    const scale = 2 ** zoom;
    return { x: (box.x0 + box.x1) / 2 - left / 2 / scale, y: (box.y0 + box.y1) / 2, zoom };
  }

  size(): { width: number; height: number } {
    const { clientWidth, clientHeight } = this.elements.canvas;
    return { width: clientWidth || innerWidth, height: clientHeight || innerHeight };
  }

  viewBox(margin = 0): Box {
    const { width, height } = this.size();
    const scale = 2 ** this.camera.zoom;
    const w = width / 2 / scale + margin / scale;
    const h = height / 2 / scale + margin / scale;
    const { x, y } = this.camera;
    return { x0: x - w, y0: y - h, x1: x + w, y1: y + h };
  }

  /** Where a place of the map is on the screen. */
  project(x: number, y: number): [number, number] {
    const { width, height } = this.size();
    const scale = 2 ** this.camera.zoom;
    return [(x - this.camera.x) * scale + width / 2, height / 2 - (y - this.camera.y) * scale];
  }

  unproject(left: number, top: number): [number, number] {
    const { width, height } = this.size();
    const scale = 2 ** this.camera.zoom;
    return [(left - width / 2) / scale + this.camera.x, (height / 2 - top) / scale + this.camera.y];
  }

  moveTo(camera: Camera, milliseconds = 420): void {
    cancelAnimationFrame(this.animation);
    this.fitted = null;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches || milliseconds <= 0) return this.setCamera(camera);
    const from = { ...this.camera };
    const begin = performance.now();
    const step = (now: number): void => {
      const t = Math.min(1, Math.max(0, (now - begin) / milliseconds));
      const e = 1 - (1 - t) ** 3;
      this.setCamera({
        x: from.x + (camera.x - from.x) * e,
        y: from.y + (camera.y - from.y) * e,
        zoom: from.zoom + (camera.zoom - from.zoom) * e,
      });
      if (t < 1) this.animation = requestAnimationFrame(step);
    };
    this.animation = requestAnimationFrame(step);
  }

  reset(view: Box): void {
    this.moveTo(this.fit(view));
    this.fitted = null;
  }

  zoomBy(steps: number): void {
    this.moveTo({ ...this.camera, zoom: this.clampZoom(this.camera.zoom + steps) }, 180);
  }

  panBy(right: number, up: number): void {
    const scale = 2 ** this.camera.zoom;
    this.moveTo({ ...this.camera, x: this.camera.x + right / scale, y: this.camera.y + up / scale }, 140);
  }

  private clampZoom(zoom: number): number {
    const { side } = this.generations[0].entry;
    return Math.min(Math.log2(4e6 / side), Math.max(Math.log2(60 / side), zoom));
  }

  private setCamera(camera: Camera): void {
    this.camera = { ...camera, zoom: this.clampZoom(camera.zoom) };
    this.moving = performance.now();
    state.hoverCard.value = null;
    this.deck?.setProps({ viewState: this.viewState() as never });
    this.refresh();
    this.onCamera();
  }

  private viewState() {
    const { x, y, zoom } = this.camera;
    return { target: [x, y, 0] as [number, number, number], zoom };
  }

  /** Once a frame: what is in view, how it is drawn. */
  private refresh(): void {
    if (this.scheduled) return;
    this.scheduled = requestAnimationFrame(() => {
      this.scheduled = 0;
      this.loader.want(this.viewBox(40), 2 ** this.camera.zoom, this.budget, MIN_EDGE);
      const drawn = this.loader.drawn();
      if (drawn.tiles.length !== this.tiles.length || drawn.tiles.some((tile, i) => tile !== this.tiles[i]))
        this.tiles = drawn.tiles;
      const old = state.drawn.value;
      const { points, sampled, overBudget, loading } = drawn;
      if (old.points !== points || old.sampled !== sampled || old.loading !== loading || old.overBudget !== overBudget)
        state.drawn.value = { ...old, points, sampled, overBudget, loading };
      this.fetchColumns();
      this.draw();
    });
  }

  private draw(): void {
    const target = this.targetSize();
    // Towards the right size in a few frames: a tile that arrives does not make the points jump.
    const near = Math.abs(target - this.pointSize) < 0.02 * target;
    this.pointSize = near ? target : this.pointSize + 0.35 * (target - this.pointSize);
    const filtered = state.isolated.value.size > 0 || state.categories.value.size > 0;
    const opacity = (state.theme.value === "dark" ? 0.74 : 0.72) * state.opacityFactor.value;
    this.deck.setProps({
      layers: [
        new PyramidLayer({
          id: "pyramid",
          tiles: this.tiles,
          clusterPalette: this.clusterTexture,
          shadePalette: this.shadeTexture,
          shades: this.shadeTexture ? (tile) => this.shadesOf(tile) : null,
          shadeKey: `${this.shadeKey} ${this.columns.size}`,
          pointSize: this.pointSize * state.sizeFactor.value,
          pointOpacity: Math.min(1, opacity),
          asideOpacity: state.theme.value === "dark" ? 0.1 : 0.13,
          layered: filtered || state.noise.value > 0,
        }),
      ],
    });
    if (!near) this.refresh();
  }

  /** Diameter in px: about a third of the ground covered, between a dot and a bead. */
  private targetSize(): number {
    const view = this.viewBox();
    const scale = 2 ** this.camera.zoom;
    let points = 0;
    for (const tile of this.tiles) {
      const { x0, y0, x1, y1 } = tile.bounds;
      const w = Math.min(x1, view.x1) - Math.max(x0, view.x0);
      const h = Math.min(y1, view.y1) - Math.max(y0, view.y0);
      if (w > 0 && h > 0) points += (tile.count * w * h) / ((x1 - x0) * (y1 - y0));
    }
    const [x0, y0, x1, y1] = this.generations[0].entry.view;
    const w = Math.min(x1, view.x1) - Math.max(x0, view.x0);
    const h = Math.min(y1, view.y1) - Math.max(y0, view.y0);
    const area = Math.max(w * h, 0.05 * (view.x1 - view.x0) * (view.y1 - view.y0)) * scale * scale;
    const each = area / Math.max(points, 1);
    return Math.min(8, Math.max(2, 2 * Math.sqrt((0.3 * each) / Math.PI)));
  }

  private updatePalettes(): void {
    const theme = state.theme.value;
    const clusters = state.labels.value?.clusters ?? [];
    const colour = state.colour.value;
    const shown = state.shownClusters.value;
    const layer = /^layer:(\d+)$/.exec(colour);
    const isShown = (id: number) => !shown || shown.has(id);
    const own = (c: ClusterEntry) => {
      const at = layer ? state.ancestor(c, Number(layer[1])) : c;
      return clusterColour(at.hue, at.shade, theme);
    };
    const nearest = colour === "nearest_cluster";
    this.clusterTexture = clusterPalette(clusters, own, NOISE[theme], nearest ? () => true : isShown);
    this.shadeTexture = null;
    this.shadeKey = "";
    const column = state.column.value;
    if (nearest) {
      this.shadeTexture = clusterPalette(clusters, own, NOISE[theme], isShown);
      this.shadeKey = colour;
    } else if (colour === "density" || column) {
      const palette = emptyPalette(256);
      const chosen = state.categories.value;
      if (column?.kind === "categories") {
        for (let code = 0; code < 256; code++) {
          const alpha = chosen.size && !chosen.has(code) ? 0 : 255;
          const rest = code === NO_VALUE || code >= 64;
          setColour(palette, code, rest ? (code === NO_VALUE ? NULL_COLOUR : NOISE)[theme] : categoryColour(code, theme), alpha);
        }
      } else {
        for (let i = 0; i < RAMP; i++) setColour(palette, i, rampColour(i / (RAMP - 1), theme), 255);
        setColour(palette, NO_VALUE, NULL_COLOUR[theme], 255);
      }
      this.shadeTexture = palette;
      this.shadeKey = column && column.kind !== "categories" ? `${colour} ${state.scale.value}` : colour;
    }
    this.refresh();
  }

  /** The name of the colour column's folder, or null when no column is needed. */
  private columnName(): string | null {
    return this.shadeTexture ? state.colour.value : null;
  }

  private fetchColumns(): void {
    const column = this.columnName();
    if (!column) return;
    for (const tile of this.tiles) {
      const name = `${tile.generation.number}/${column}/${tile.info.key}`;
      if (this.columns.has(name)) continue;
      this.columns.set(name, "loading");
      tile.generation
        .column(tile.info, column)
        .then((values) => this.columns.set(name, values))
        .catch((error: Error) => {
          this.columns.set(name, "missing");
          state.notice.value = error.message;
        })
        .finally(() => this.refresh());
    }
    if (this.columns.size > 600)
      for (const name of [...this.columns.keys()].slice(0, 200)) this.columns.delete(name);
  }

  private shadesOf(tile: LoadedTile): Uint16Array | null {
    const column = this.columnName();
    const values = this.columns.get(`${tile.generation.number}/${column}/${tile.info.key}`);
    if (!(values instanceof Float32Array)) return null;
    const kept = this.shadeArrays.get(tile);
    if (kept?.key === this.shadeKey) return kept.values;
    const shades = new Uint16Array(tile.count);
    const entry = state.column.value;
    if (column === "nearest_cluster") for (let i = 0; i < tile.count; i++) shades[i] = values[i] + 1;
    else if (entry && entry.kind !== "categories")
      for (let i = 0; i < tile.count; i++) shades[i] = shadeIndex(values[i], entry, state.scale.value);
    else for (let i = 0; i < tile.count; i++) shades[i] = Math.min(values[i], column === "density" ? RAMP - 1 : 255);
    this.shadeArrays.set(tile, { key: this.shadeKey, values: shades });
    return shades;
  }

  /** Whether a point can be seen, and so picked. */
  private pointShown(tile: LoadedTile, i: number): boolean {
    const { data } = this.clusterTexture;
    if (!data[4 * (tile.cluster[i] + 1) + 3]) return false;
    if (!this.shadeTexture) return true;
    const shades = this.shadeArrays.get(tile);
    return shades?.key === this.shadeKey && this.shadeTexture.data[4 * shades.values[i] + 3] > 0;
  }

  pick(left: number, top: number): Picked<LoadedTile> | null {
    const [x, y] = this.unproject(left, top);
    const reach = Math.max(REACH, this.pointSize) / 2 ** this.camera.zoom;
    return pickNearest(this.tiles, x, y, reach, (tile, i) => this.pointShown(tile, i));
  }

  private listen(): void {
    const { canvas } = this.elements;
    let down: { x: number; y: number } | null = null;
    canvas.addEventListener("pointermove", (event) => {
      this.pointer = { x: event.offsetX, y: event.offsetY };
      if (event.buttons === 0 && event.pointerType !== "touch") this.hover();
    });
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.clearHover();
    });
    canvas.addEventListener("pointerdown", (event) => {
      down = { x: event.clientX, y: event.clientY };
      this.clearHover();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!down || Math.hypot(event.clientX - down.x, event.clientY - down.y) > 5) return;
      const picked = this.pick(event.offsetX, event.offsetY);
      if (picked) void this.pin(picked);
      else state.pinned.value = null;
    });
  }

  private clearHover(): void {
    clearTimeout(this.dwell);
    state.hovered.value = null;
    state.hoverCard.value = null;
  }

  private hover(): void {
    if (!this.pointer) return;
    const picked = this.pick(this.pointer.x, this.pointer.y);
    if (!picked) return this.clearHover();
    const { tile, index, x, y } = picked;
    const position = tile.info.first + index;
    const { generation } = tile;
    const old = state.hovered.value;
    if (old && old.position === position && old.generation === generation.number) return;
    clearTimeout(this.dwell);
    state.hoverCard.value = null;
    state.hovered.value = {
      generation: generation.number,
      position,
      x,
      y,
      cluster: tile.cluster[index],
      document: null,
      failed: false,
    };
    generation.prefetch(position);
    this.dwell = window.setTimeout(() => {
      const [left, top] = this.project(x, y);
      state.hoverCard.value = { left, top };
      const still = () => state.hovered.value?.position === position && state.hovered.value.generation === generation.number;
      generation
        .document(position)
        .then((document) => {
          if (still()) state.hovered.value = { ...state.hovered.value!, document };
        })
        .catch(() => {
          if (still()) state.hovered.value = { ...state.hovered.value!, failed: true };
        });
    }, DWELL);
  }

  private async pin({ tile, index, x, y }: Picked<LoadedTile>): Promise<void> {
    state.pinning.value = true;
    try {
      const document = await tile.generation.document(tile.info.first + index);
      state.pinned.value = { x, y, cluster: tile.cluster[index], document };
    } catch (error) {
      state.notice.value = (error as Error).message;
    } finally {
      state.pinning.value = false;
    }
  }

  /** Pin a document by its row id, from an address or an exemplar. */
  async pinRow(rowId: number, move: boolean): Promise<void> {
    state.pinning.value = true;
    try {
      for (const generation of [...this.generations].reverse()) {
        const position = await generation.positionOf(rowId);
        if (position === null) continue;
        const info = await generation.tileOf(position);
        const [document, tile] = await Promise.all([generation.document(position), generation.tile(info)]);
        const i = position - info.first;
        const step = (tile.bounds.x1 - tile.bounds.x0) / 65536;
        const x = tile.bounds.x0 + (tile.xy[2 * i] + 0.5) * step;
        const y = tile.bounds.y0 + (tile.xy[2 * i + 1] + 0.5) * step;
        state.pinned.value = { x, y, cluster: tile.cluster[i], document };
        if (move) this.moveTo({ x, y, zoom: Math.max(this.camera.zoom, Math.log2(3000 / this.generations[0].entry.side)) });
        return;
      }
      state.notice.value = `No document of this map has the row id ${rowId}.`;
    } catch (error) {
      state.notice.value = (error as Error).message;
    } finally {
      state.pinning.value = false;
    }
  }

  private afterRender(): void {
    const now = performance.now();
    // Frames while the camera moves tell what this machine can draw.
    if (this.lastFrame && now - this.moving < 80 && now - this.lastFrame < 1000) {
      this.slowFrames = now - this.lastFrame > 90 ? this.slowFrames + 1 : Math.max(0, this.slowFrames - 1);
      if (this.slowFrames > 12 && this.budget > BUDGET.software) {
        this.budget = Math.max(BUDGET.software, this.budget / 2);
        this.slowFrames = 0;
        state.drawn.value = { ...state.drawn.value, slowed: true };
      }
    }
    this.lastFrame = now;
    this.placeLabels();
    this.placeOverlay();
  }

  private placeLabels(): void {
    const theme = state.theme.value;
    const shown = state.shownClusters.value;
    const wanted = visibleLabels(this.ordered, this.viewBox(60), this.camera.zoom);
    const kept = new Set<ClusterEntry>();
    for (const cluster of wanted) {
      kept.add(cluster);
      let node = this.labelNodes.get(cluster);
      if (!node) {
        node = document.createElement("div");
        node.className = `label layer-${Math.min(cluster.layer, 2)}`;
        node.textContent = cluster.label;
        node.style.fontSize = `${cluster.px}px`;
        node.style.maxWidth = `${(168 * cluster.px) / 13}px`;
        node.style.color = css(inkColour(cluster.hue, cluster.shade, theme));
        this.labelNodes.set(cluster, node);
        this.elements.labels.append(node);
      }
      const [left, top] = this.project(cluster.x!, cluster.y!);
      node.style.transform = `translate(${left.toFixed(1)}px, ${top.toFixed(1)}px) translate(-50%, -50%)`;
      const dimmed = shown !== null && !(state.leaves.value.get(`${cluster.layer}.${cluster.id}`) ?? []).some((id) => shown.has(id));
      node.classList.toggle("dimmed", dimmed);
    }
    for (const [cluster, node] of this.labelNodes) {
      if (kept.has(cluster)) continue;
      node.remove();
      this.labelNodes.delete(cluster);
    }
  }

  private placeOverlay(): void {
    const { overlay } = this.elements;
    const nodes: SVGElement[] = [];
    const theme = state.theme.value;
    const outlined = state.pointed.value ? [state.pointed.value] : this.fewIsolated();
    const list = state.labels.value?.clusters ?? [];
    for (const cluster of outlined) {
      const hull = state.details.value?.[list.indexOf(cluster)]?.hull ?? [];
      if (hull.length < 6) continue;
      const path = document.createElementNS(SVG, "path");
      let d = "";
      for (let i = 0; i < hull.length; i += 2) {
        const [left, top] = this.project(hull[i], hull[i + 1]);
        d += `${i ? "L" : "M"}${left.toFixed(1)} ${top.toFixed(1)}`;
      }
      path.setAttribute("d", `${d}Z`);
      path.setAttribute("class", "hull");
      path.style.stroke = path.style.fill = css(clusterColour(cluster.hue, cluster.shade, theme));
      nodes.push(path);
    }
    const ring = (point: { x: number; y: number }, kind: string, radius: number) => {
      const [left, top] = this.project(point.x, point.y);
      const circle = document.createElementNS(SVG, "circle");
      circle.setAttribute("cx", left.toFixed(1));
      circle.setAttribute("cy", top.toFixed(1));
      circle.setAttribute("r", radius.toFixed(1));
      circle.setAttribute("class", kind);
      nodes.push(circle);
    };
    const radius = (this.pointSize * state.sizeFactor.value) / 2;
    if (state.pinned.value) {
      ring(state.pinned.value, "pinned-outer", radius + 7);
      ring(state.pinned.value, "pinned", radius + 4);
    }
    if (state.hovered.value) ring(state.hovered.value, "hovered", radius + 3.5);
    overlay.replaceChildren(...nodes);
  }

  private fewIsolated(): ClusterEntry[] {
    const refs = [...state.isolated.value];
    return refs.length > 6 ? [] : refs.map((ref) => state.byRef.value.get(ref)).filter((c) => c !== undefined);
  }

  private failed(error: Error): void {
    state.trouble.value = {
      title: "This browser could not start WebGL",
      text: `The map is drawn by the graphics processor through WebGL 2, which this browser does not offer here (${error.message}). Another browser, or hardware acceleration switched on in its settings, helps.`,
    };
  }

  private lost(): void {
    state.trouble.value = {
      title: "The graphics processor dropped the map",
      text: "It ran out of memory, or its driver was restarted. Reload the page: the address keeps what you were looking at.",
    };
  }
}
