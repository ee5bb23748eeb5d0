/** The map view: draws the tiles that the camera needs, and redraws when anything that it depends on changes. */

import { effect, untracked } from "@preact/signals";
import { obstacles, layoutSettled } from "../obstacles";
import type { ClusterEntry, NumberColumn } from "../engine/format";
import type { Generation, LoadedTile } from "../engine/generation";
import { clustersInView, countInView } from "../engine/in-view";
import { insetsOf, NARROW_WIDTH } from "../engine/insets";
import { isInside, isShown, type Box } from "../engine/lod";
import { isCloseUp } from "../engine/overview";
import { nearestToCentre } from "../engine/nearest";
import { ADDED } from "../engine/merge";
import { maxMapWidth } from "../engine/positions";
import { pointDensity, pointStyle } from "../engine/points";
import { scanDrawn } from "../engine/drawn-points";
import { countSelected, selectionOf, type Operation, type Selection } from "../engine/selection";
import type { Shape } from "../engine/shape";
import { isFiltering, cachedPassingMask, retryFilters } from "../filtering";
import * as state from "../state";
import { MapCamera, type Camera } from "./camera";
import type { Drawing } from "./drawing";
import { Refinement } from "./refinement";
import { FirstPicture } from "./first-picture";
import type { SizeFactors } from "./size-factors";
import { LabelOverlay } from "./label-overlay";
import { Lit, LitClusters, positionOf, ringsOf } from "./lit";
import { TileLoader, type Drawn } from "./loader";
import { drawMarks } from "./marks";
import { Outlines } from "./outlines";
import type { Overview } from "./overview";
import { Pointing } from "./pointing";
import type { Raster } from "./raster";
import { revealCluster } from "./reveal";
import { hasHues, Shading } from "./shading";
import type { Spatial } from "./spatial";
import { listenForShapes, type Corner } from "./shape-select";

/** Tiles are subdivided when their edge exceeds this many px. */
const MIN_TILE_EDGE = 150;
/** Interval between counts of the points in view. */
const COUNT_INTERVAL_MS = 60;
/** Idle time before documents in view are listed, and their maximum number. */
const LIST_DELAY_MS = 200;
const MAX_LISTED = 2_000;
/** Minimum window height in px for the overview. */
const MIN_OVERVIEW_HEIGHT = 480;
const BUDGET = { desktop: 2_000_000, mobile: 500_000, software: 50_000 };

interface Elements {
  canvas: HTMLCanvasElement;
  labels: HTMLElement;
  overlay: SVGSVGElement;
}

export class MapView {
  readonly camera: MapCamera;
  readonly pointing: Pointing;
  budget = matchMedia("(pointer: coarse)").matches ? BUDGET.mobile : BUDGET.desktop;
  onCamera: () => void = () => undefined;
  /** Called when a shape was drawn over the map; in map units. */
  onShape: (shape: Shape, operation: Operation) => void = () => undefined;

  /** The renderer and controller, loaded after the first picture, which is shown until then. */
  private drawing: Drawing | "coming" | "failed" | null = null;
  private first: FirstPicture | null;
  /** Point budget from the query string; NaN or 0 without one. */
  private readonly askedBudget = Number(new URLSearchParams(location.search).get("budget"));
  /** Whether the kind of renderer is known; until then the budget is that of a slow one. */
  private started = false;
  private readonly loader: TileLoader;
  private readonly shading: Shading;
  private readonly lit = new Lit();
  private readonly litClusters = new LitClusters();
  private readonly refinement = new Refinement(
    () => this.positionsRefined(),
    (error) => state.report("Exact positions of points", error),
  );
  /** The document hovered in the list. */
  private pointedAt: state.Row | null = null;
  private readonly shadesOf = (tile: LoadedTile) => this.shading.of(tile);
  private readonly litOf = (tile: LoadedTile) => this.lit.of(tile);
  private readonly labels: LabelOverlay;
  /** The largest generation; its root tile determines point size. */
  private readonly largest: Generation;
  private tiles: LoadedTile[] = [];
  private readonly outlines: Outlines;
  /** The density raster of large maps; loaded when a sample is drawn. */
  private raster: Raster | "coming" | null = null;
  private rate = NaN;
  /** The overview map; null while it is hidden. */
  private overview: Overview | "coming" | null = null;
  private pointSize = 2;
  /** Inputs of the last draw, to skip redundant ones. */
  private lastDrawn: readonly unknown[] = [];
  /** Points per square pixel in the initial view, cached by window size and budget. */
  private density: { key: string; value: number } = { key: "", value: 0.01 };
  /** The 3-D view; null on the flat map. */
  private space: Spatial | null = null;
  /** Size factors by a column; null for uniform size. */
  private growths: SizeFactors | null = null;
  private spatialRequests = 0;
  /** Whether the picture is outdated since the last frame. */
  private stale = false;
  private ended = false;
  private ticking = 0;
  private counting = 0;
  private listTimer = 0;
  private readonly stops: (() => void)[] = [];
  private acted = false;
  private lastFrame = 0;
  private slowFrames = 0;

  /** Opens at `start`, or with `body` fitted to the window. */
  constructor(
    private readonly elements: Elements,
    private readonly generations: readonly Generation[],
    start: Camera | null,
    private readonly body: Box,
    /** Bounding box of the whole map, and its edge length. */
    private readonly whole: Box,
    side: number,
    /** Called when the WebGL context is lost: nothing can be drawn on the canvas any more. */
    private readonly onLost: () => void,
  ) {
    this.outlines = new Outlines(body);
    this.largest = generations.reduce((most, one) => (one.entry.documents > most.entry.documents ? one : most));
    this.loader = new TileLoader(
      generations,
      () => this.refresh(),
      (error) => state.report("Points", error),
    );
    this.camera = new MapCamera(
      elements.canvas,
      side,
      maxMapWidth(generations),
      whole,
      () => insetsOf(this.camera.size(), obstacles.value),
      () => this.cameraMoved(),
    );
    this.shading = new Shading(
      () => {
        this.refresh();
        this.pointing.look();
      },
      (error) => state.report("Colours", error),
    );
    this.labels = new LabelOverlay(elements.labels, this.camera);
    this.pointing = new Pointing(this.camera, generations, {
      tiles: () => this.tiles,
      pointSize: () => this.pointSize * state.sizeFactor.value,
      shows: (tile, i) => this.shows(tile, i),
      labelAt: (left, top) => (this.space ?? this.labels).labelAt(left, top),
      closeZoom: () => this.camera.fit(this.body).zoom + 1.6,
      space: () => this.space,
    });
    if (start) this.camera.set(start);
    else this.camera.hold(body);
    if (this.askedBudget >= 1000) this.budget = this.askedBudget;
    this.first = new FirstPicture(elements.canvas);
    // Registered before deck.gl's own frame callback, so that each frame draws current state.
    this.ticking = requestAnimationFrame(this.tick);
    // deck.gl reports resizes itself, once it is loaded.
    const resizeBeforeDeck = () => void (this.renderer || this.resized());
    addEventListener("resize", resizeBeforeDeck);
    this.stops.push(() => removeEventListener("resize", resizeBeforeDeck));
    elements.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.lost();
    });
    for (const act of ["pointerdown", "wheel", "keydown"]) addEventListener(act, () => (this.acted = true), { capture: true, passive: true, once: true });
    this.pointing.listen(elements.canvas);
    this.stops.push(
      listenForShapes(elements.canvas.parentElement!, elements.canvas, {
        flat: () => !this.space,
        tool: () => state.tool.value,
        operation: () => state.operation.value,
        begun: () => this.pointing.leave(),
        done: (corners, operation) => this.onShape(this.shapeOf(corners), operation),
      }),
    );
    this.subscribe();
    // Measure obstacles before the first frame requests tiles.
    void layoutSettled();
  }

  private get renderer(): Drawing | null {
    return typeof this.drawing === "object" ? this.drawing : null;
  }

  /** Whether the first picture is complete enough to start loading deck.gl: labels and root tiles, or all tiles. */
  private isFirstPictureReady({ loading }: Drawn): boolean {
    if (this.space) return true;
    return state.labelsRead.value && (!loading || this.roots().length === this.generations.length);
  }

  /** Load the renderer, unless it has been requested. */
  private async loadRenderer(): Promise<void> {
    if (this.drawing !== null && this.drawing !== "failed") return;
    this.drawing = "coming";
    try {
      const { Drawing } = await import("./drawing");
      if (this.ended) return;
      this.drawing = new Drawing({
        canvas: this.elements.canvas,
        camera: this.camera,
        flat: !this.space,
        started: (software) => {
          if (!(this.askedBudget >= 1000) && software) this.budget = BUDGET.software;
          this.started = true;
          this.refresh();
        },
        resized: () => this.resized(),
        rendered: () => this.afterRender(),
        failed: (error) => {
          if (this.ended) return;
          if (!this.lastFrame) this.failed(error);
          else state.notice.value = `The drawing went wrong: ${error.message}`;
        },
        lost: () => this.lost(),
        cursor: (dragging) => (state.tool.value ? "crosshair" : dragging ? "grabbing" : state.hovered.value || this.pointing.onLabel ? "pointer" : "grab"),
      });
      this.lastDrawn = [];
    } catch (error) {
      this.drawing = "failed";
      state.report("Moving and zooming", error as Error);
    }
    this.refresh();
  }

  private resized(): void {
    this.camera.resized();
    this.space?.resized();
    this.pointing.mapMoved();
    this.refresh();
  }

  /** Subscribe to the signals that the picture depends on. */
  private subscribe(): void {
    const subscribe = (work: () => void) => void this.stops.push(effect(work));
    subscribe(() => this.shading.update());
    subscribe(() => {
      const column = state.sizeColumn.value;
      this.growths = null;
      this.refresh();
      if (column) void this.loadSizeFactors(column);
    });
    subscribe(() => void this.elements.labels.classList.toggle("plain", !hasHues()));
    subscribe(() => {
      void [state.filters.value, state.textMatches.value, state.index.value];
      const selected = state.shownSelection.value?.documents ?? null;
      // An empty result highlights nothing: the map stays as it was.
      const found = !selected && state.found.value?.hits.length ? selectionOf(state.found.value.hits) : null;
      this.lit.set(selected ?? found, isFiltering() ? (tile) => cachedPassingMask(tile, () => this.masksArrived()) : null);
      this.updateRings();
      this.refresh();
    });
    subscribe(() => {
      void state.theme.value;
      this.labels.reset(this.space ? [] : (state.labels.value?.clusters ?? []));
      this.space?.reset();
      this.refresh();
    });
    subscribe(() => {
      const wanted = state.spatial.value;
      untracked(() => void this.setSpatial(wanted));
    });
    subscribe(() => {
      void [state.sizeFactor.value, state.opacityFactor.value, state.contours.value, state.pinned.value, state.hovered.value];
      void [state.pointed.value, state.isolated.value, state.details.value, state.hits.value, state.pointedRow.value, state.listing.value, state.treeShown.value, state.labels.value, state.labelsRead.value];
      this.refresh();
    });
    subscribe(() => {
      void obstacles.value;
      // The initial view avoids panels as they open, until the user acts.
      if (!this.acted) this.camera.resized();
      if (!this.acted) this.space?.resized();
      this.refresh();
    });
  }

  private async loadSizeFactors(column: NumberColumn): Promise<void> {
    try {
      const { SizeFactors } = await import("./size-factors");
      if (state.sizeColumn.value !== column) return;
      this.growths = new SizeFactors(column, () => this.refresh());
      this.refresh();
    } catch (error) {
      state.report("Size", error as Error);
    }
  }

  /** Enter the 3-D view, loading its code on first use, or return to the flat map. */
  private async setSpatial(wanted: boolean): Promise<void> {
    if (!wanted) {
      const leaving = this.space;
      return leaving?.leave(() => {
        if (this.space !== leaving) return;
        leaving.end();
        this.space = null;
        this.renderer?.steer(true);
        this.labels.reset(state.labels.value?.clusters ?? []);
        this.cameraMoved();
      });
    }
    state.tool.value = null;
    const request = (this.spatialRequests += 1);
    const isWanted = (): boolean => request === this.spatialRequests && state.spatial.value && !this.ended;
    try {
      const { SpaceView } = await import("./space-view");
      const host = {
        ...this.elements,
        camera: this.camera,
        generations: this.generations,
        body: this.body,
        whole: this.whole,
        tiles: () => this.tiles,
        shows: (tile: LoadedTile, i: number) => this.shows(tile, i),
        pointSize: () => this.pointSize * state.sizeFactor.value,
        redraw: () => this.refresh(),
        shifted: () => this.pointing.mapMoved(),
        steered: () => this.onCamera(),
        problem: (error: Error) => state.report("Heights", error),
      };
      const space = await SpaceView.open(host, isWanted);
      if (!space) return;
      this.space?.end();
      this.renderer?.steer(false);
      this.labels.reset([]);
      this.space = space;
      this.refresh();
    } catch (error) {
      state.inSpace.value = false;
      state.report("The map in space", error as Error);
    }
  }

  /** Retry everything that could not be read. */
  retry(): void {
    if (this.drawing === "failed") void this.loadRenderer();
    this.loader.retry();
    this.refinement.retry();
    if (typeof this.raster === "object") this.raster?.retry();
    this.pointing.retry();
    this.shading.retry();
    this.growths?.retry();
    this.space?.retry(this.tiles);
    retryFilters();
    this.lit.invalidate();
    this.refresh();
  }

  /** Release the canvas and all resources: another view replaces this one. */
  end(): void {
    for (const stop of this.stops) stop();
    cancelAnimationFrame(this.ticking);
    this.ended = true;
    clearTimeout(this.counting);
    clearTimeout(this.listTimer);
    this.labels.reset([]);
    if (typeof this.overview === "object") this.overview?.end();
    this.overview = null;
    if (typeof this.raster === "object") this.raster?.end();
    this.space?.end();
    this.space = null;
    this.first?.end();
    this.renderer?.end();
  }

  private cameraMoved(): void {
    this.pointing.mapMoved();
    this.renderer?.follow(this.camera.place);
    this.refresh();
    if (!this.camera.untouched) this.onCamera();
  }

  private refresh(): void {
    this.stale = true;
  }

  /** Once per frame: choose tiles, draw them, place labels and marks. */
  private readonly tick = (): void => {
    this.ticking = requestAnimationFrame(this.tick);
    if (!this.stale) return;
    this.stale = false;
    // In 3-D a tile may be anywhere on the screen: complete levels are drawn, as many as the budget allows.
    const [view, scale] = this.space ? [this.whole, this.space.scale()] : [this.camera.view(40), this.camera.scale];
    this.loader.want(view, scale, this.started ? this.budget : Math.min(this.budget, BUDGET.software), MIN_TILE_EDGE, state.colour.value === ADDED);
    const drawn = this.space ? drawnInSpace(this.loader.drawn(), this.space) : this.loader.drawn();
    if (drawn.tiles.length !== this.tiles.length || drawn.tiles.some((tile, i) => tile !== this.tiles[i])) {
      this.tiles = drawn.tiles;
      this.updateRings();
      this.pointing.look();
    }
    state.rootsRead.value ||= !drawn.loading || this.roots().length === this.generations.length;
    this.shading.fetch(this.tiles);
    if (!this.space) this.refinement.fetch(this.tiles, scale);
    this.rate = drawn.rate;
    // Counts as loading until deck.gl has drawn.
    this.publishDrawn({ ...drawn, loading: drawn.loading || (this.first !== null && this.drawing !== "failed") });
    this.draw();
    if (this.drawing === null && this.isFirstPictureReady(drawn)) setTimeout(() => void this.loadRenderer());
    // Labels follow the canvas: while the camera moves they are placed after the frame has been rendered.
    if (this.lastFrame > this.camera.moved || performance.now() - this.camera.moved > 100) this.placeOverlays();
    // A move without effect renders no frame.
    else this.stale = true;
  };

  private shows(tile: LoadedTile, i: number): boolean {
    return isShown(i, tile.share) && this.shading.shows(tile, i) && this.lit.of(tile)?.[i] !== 0;
  }

  /** Update the rings around search results. */
  private updateRings(): void {
    // A selection needs no rings.
    const rows = state.shownSelection.peek() ? [] : (state.found.peek()?.hits ?? []);
    const rings = ringsOf(rows, this.tiles, (tile, i) => this.lit.of(tile)?.[i] !== 0);
    if (rings.length || state.hits.peek().length) state.hits.value = rings;
  }

  /** Highlight a listed document on the map, if it is drawn. */
  point(row: state.Row | null): void {
    this.pointedAt = row;
    state.pointedRow.value = row && positionOf(row, this.tiles);
  }

  /** Positions were refined: move rings and the pinned mark with them. */
  private positionsRefined(): void {
    this.updateRings();
    const { value: pinned } = state.pinned;
    const place = pinned && positionOf({ generation: this.generations[pinned.generation], position: pinned.position }, this.tiles);
    if (place && (place.x !== pinned.x || place.y !== pinned.y)) state.pinned.value = { ...pinned, ...place };
    if (this.pointedAt) this.point(this.pointedAt);
    this.pointing.mapMoved();
    this.refresh();
  }

  private shapeOf(corners: readonly Corner[]): Shape {
    return corners.flatMap((corner) => this.camera.unproject(...corner));
  }

  /** Columns needed by filters have arrived. */
  private masksArrived(): void {
    this.lit.invalidate();
    this.updateRings();
    this.refresh();
  }

  drawnIn(shape: Shape | null, clusters: ReadonlySet<number> | null): Selection {
    // Independent of the current selection, to which more may be added.
    const masks = new Map(isFiltering() ? this.tiles.map((tile) => [tile, cachedPassingMask(tile, () => this.masksArrived())]) : []);
    const shows = (tile: LoadedTile, i: number) => isShown(i, tile.share) && this.shading.shows(tile, i) && masks.get(tile)?.[i] !== 0;
    return scanDrawn(this.tiles, shape, (tile, i) => shows(tile, i) && (!clusters || clusters.has(tile.cluster[i])));
  }

  drawnOf(selection: Selection): number {
    return countSelected(selection, this.tiles);
  }

  private rowsIn(box: Box, limit: number): { rows: state.Row[]; all: number } {
    const { places, all } = nearestToCentre(this.tiles, box, (tile, i) => this.shows(tile, i), limit);
    return { rows: places.map(({ tile, index }) => ({ generation: tile.generation, position: tile.info.first + index })), all };
  }

  /** Update list and tree, once the map is idle. */
  private updateLists(): void {
    this.listTimer = 0;
    if (state.listing.value && !state.litRows.value) this.list();
    if (!state.treeShown.value) return;
    const counts = this.space?.clusters() ?? clustersInView(this.tiles, this.camera.free());
    // If only a sample is drawn, a small cluster may have no drawn document.
    for (const cluster of state.labels.value?.clusters ?? [])
      if (!cluster.layer && !counts.has(cluster.id) && this.hasMiddleInView(cluster)) counts.set(cluster.id, 1);
    const old = state.clustersInView.value;
    if (old?.size !== counts.size || [...counts].some(([id, documents]) => old.get(id) !== documents)) state.clustersInView.value = counts;
  }

  private hasMiddleInView({ x, y, z }: ClusterEntry): boolean {
    if (x === null || y === null) return false;
    if (!this.space) return isInside(x, y, this.camera.free());
    const { width, height } = this.camera.size();
    const at = this.space.project({ x, y, z: z ?? undefined, cluster: -1 });
    return at !== null && at[0] >= 0 && at[1] >= 0 && at[0] <= width && at[1] <= height;
  }

  private list(): void {
    const { rows, all } = this.space?.list(MAX_LISTED) ?? this.rowsIn(this.camera.free(), MAX_LISTED);
    const old = state.inView.value;
    const same = old.all === all && old.rows.length === rows.length && rows.every((row, i) => row.position === old.rows[i].position);
    if (!same) state.inView.value = { rows, all };
  }

  /** Publish what is drawn; points are also counted while the map moves, a few times per second. */
  private publishDrawn({ sampled, overBudget, loading, failedFiles, failedDocuments }: Drawn): void {
    const old = state.drawn.value;
    const now: state.Drawn = { ...old, sampled, overBudget, loading, failedFiles, failedDocuments, ...this.shading.progress(this.tiles) };
    if (JSON.stringify(now) !== JSON.stringify(old)) state.drawn.value = now;
    if ((state.listing.value && !state.litRows.value) || state.treeShown.value) {
      clearTimeout(this.listTimer);
      this.listTimer = window.setTimeout(() => this.updateLists(), LIST_DELAY_MS);
    }
    if (old.loading && !loading) this.count();
    // In 3-D counting projects every point: less often for many points.
    else this.counting ||= window.setTimeout(() => this.count(), COUNT_INTERVAL_MS + (this.space ? old.points / 2_000 : 0));
  }

  private count(): void {
    clearTimeout(this.counting);
    this.counting = 0;
    const points = this.space?.count() ?? countInView(this.tiles, this.camera.view());
    if (points !== state.drawn.value.points) state.drawn.value = { ...state.drawn.value, points };
  }

  private draw(): void {
    const { shading } = this;
    const dark = state.theme.value === "dark";
    const home = this.camera.fit(this.body).zoom;
    const points = Math.min(state.documents.value, this.budget);
    const { width, height } = this.camera.size();
    const { size, opacity } = pointStyle(
      this.pointDensity(home, points),
      points,
      Math.min(width, height),
      (this.space ? Math.log2(this.space.scale()) : this.camera.place.zoom) - home,
    );
    this.pointSize = size;
    const filtered = state.isolated.value.size > 0;
    const props = {
      id: "pyramid",
      tiles: this.tiles,
      clusterPalette: shading.clusters,
      shadePalette: shading.shades,
      shades: shading.shades && this.shadesOf,
      shadeKey: shading.key,
      lit: this.litOf,
      litKey: this.lit.key,
      growths: this.growths,
      pointSize: size * state.sizeFactor.value,
      pointOpacity: Math.min(1, opacity * state.opacityFactor.value),
      plain: !state.labels.value && !state.hues.value.length,
      dimmedOpacity: dark ? 0.1 : 0.13,
      dark,
      layered: filtered || this.lit.key !== "" || state.noise.value > 0,
    };
    if (this.space) {
      this.lastDrawn = [];
      this.renderer?.show(this.space.layer(props));
      return;
    }
    // Many signals, such as hover, lists and panels, do not change the points: skip these redraws.
    const looks = [...Object.values(props), shading.revision, this.growths?.revision, ...this.tiles.flatMap((tile) => [tile.share, tile.steps])];
    // deck.gl redraws by itself when the view changes.
    if (!this.renderer) looks.push(...Object.values(this.camera.place), width, height);
    if (looks.length === this.lastDrawn.length && looks.every((value, i) => value === this.lastDrawn[i])) return;
    this.lastDrawn = looks;
    if (this.renderer) return this.renderer.points(props);
    this.first?.paint(this.camera, props);
    this.placeOverlays();
  }

  /** Point density in the initial view, from the largest root tile, which samples nearly the whole map. */
  private pointDensity(home: number, points: number): number {
    const root = this.tiles.find((tile) => tile.info.z === 0 && tile.generation === this.largest);
    const key = `${home.toFixed(2)} ${points}`;
    if (root && this.density.key !== key) {
      const edge = (root.bounds.x1 - root.bounds.x0) * 2 ** home;
      this.density = { key, value: pointDensity(root, edge) * Math.max(1, points / root.count) };
    }
    return this.density.value;
  }

  private afterRender(): void {
    const now = performance.now();
    if (this.first && (this.space || this.lastDrawn.length)) {
      this.first.end();
      this.first = null;
      this.refresh();
    }
    // Frame times while the camera moves measure the machine: halve the budget if it is too slow.
    if (this.lastFrame && now - this.camera.moved < 80 && now - this.lastFrame < 1000) {
      this.slowFrames = now - this.lastFrame > 90 ? this.slowFrames + 1 : Math.max(0, this.slowFrames - 1);
      if (this.slowFrames > 12 && this.budget > BUDGET.software) {
        this.budget = Math.max(BUDGET.software, this.budget / 2);
        this.slowFrames = 0;
        state.drawn.value = { ...state.drawn.value, slowed: true };
      }
    }
    this.lastFrame = now;
    this.placeOverlays();
  }

  private placeOverlays(): void {
    this.placeOverview();
    this.placeRaster();
    if (this.space) return this.space.placeOverlays(this.pointSize * state.sizeFactor.value);
    this.labels.place(this.litClusters.of(this.lit, this.tiles));
    const { outlines, camera } = this;
    outlines.follow(this.roots());
    const size = this.pointSize * state.sizeFactor.value;
    drawMarks(this.elements.overlay, camera, size, outlines.of, state.contours.value ? outlines.contours(camera) : null);
  }

  /** The overview map: on wide windows when zoomed in. Its script is loaded on first use. */
  private placeOverview(): void {
    const { width, height } = this.camera.size();
    const wanted = !this.space && width > NARROW_WIDTH && height >= MIN_OVERVIEW_HEIGHT && isCloseUp(this.body, this.camera.free());
    if (!wanted) {
      if (typeof this.overview === "object") this.overview?.end();
      this.overview = null;
    } else if (this.overview === null) {
      this.overview = "coming";
      import("./overview").then(
        ({ Overview }) => {
          if (this.overview !== "coming" || this.ended) return;
          this.overview = new Overview(this.elements.canvas.parentElement!, this.camera, this.body);
          this.refresh();
        },
        (error: Error) => state.report("The picture of the whole map", error),
      );
    } else if (typeof this.overview === "object") {
      this.overview.draw(this.roots(), this.shading);
      this.overview.place();
    }
  }

  /** The density raster: on the flat map, without isolation or highlight, while a sample is drawn. */
  private placeRaster(): void {
    if (!this.largest.entry.raster) return;
    const wanted = !this.space && !state.isolated.value.size && this.lit.key === "" && this.renderer !== null;
    if (this.raster === null && wanted && this.rate < 1) {
      this.raster = "coming";
      import("./raster").then(
        ({ Raster }) => {
          if (this.ended) return;
          this.raster = new Raster(this.elements.canvas, this.largest, this.camera, () => this.refresh());
          this.refresh();
        },
        (error: Error) => state.report("The density of all documents", error),
      );
    }
    const shaded = typeof this.raster === "object" && this.raster !== null && this.raster.place(this.rate, wanted);
    if (shaded !== state.drawn.value.shaded) state.drawn.value = { ...state.drawn.value, shaded };
  }

  /** Root tiles: a sample of the whole map that is always loaded. */
  private roots(): LoadedTile[] {
    return this.tiles.filter(({ info }) => info.z === 0);
  }

  home(): void {
    if (this.space) this.space.home();
    else this.camera.moveTo(this.camera.fit(this.body));
  }

  showWhole(): void {
    if (this.space) this.space.whole();
    else this.camera.moveTo(this.camera.fit(this.whole));
  }

  zoomBy(steps: number): void {
    if (this.space) this.space.zoom(steps);
    else this.camera.zoomBy(steps);
  }

  panBy(right: number, up: number, move: boolean): void {
    if (this.space) this.space.pan(right, up, move);
    else this.camera.panBy(right, up);
  }

  /** Zoom to a cluster, whose bounding box is given. */
  frame(cluster: ClusterEntry, box: Box): void {
    if (this.space) this.space.show(cluster, Math.max(box.x1 - box.x0, box.y1 - box.y0));
    else this.camera.moveTo(this.camera.fit(box));
  }

  /** Bring a cluster into view, unless it is visible already. */
  reveal(cluster: ClusterEntry, box: Box): void {
    if (!this.space) return revealCluster(this.camera, box);
    this.space.reveal({ x: cluster.x!, y: cluster.y!, z: cluster.z ?? undefined, cluster: -1 });
  }

  private failed(error: Error): void {
    state.trouble.value = {
      title: "This browser could not start WebGL",
      text: `The map is drawn by the graphics processor through WebGL 2, which this browser does not offer here (${error.message}). Another browser, or hardware acceleration switched on in its settings, helps.`,
    };
  }

  private lost(): void {
    if (this.ended) return;
    this.end();
    this.onLost();
  }
}

/** In 3-D only tiles with loaded heights are drawn. */
function drawnInSpace(drawn: Drawn, space: Spatial): Drawn {
  const { tiles, loading, failed } = space.drawable(drawn.tiles);
  return {
    ...drawn,
    tiles,
    loading: drawn.loading || loading,
    failedFiles: drawn.failedFiles + failed.length,
    failedDocuments: drawn.failedDocuments + failed.reduce((sum, tile) => sum + tile.count, 0),
  };
}
