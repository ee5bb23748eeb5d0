/** Pointer interaction with documents: hovering and pinning. */

import { layoutSettled } from "../obstacles";
import type { ClusterEntry } from "../engine/format";
import { locate, type Generation, type LoadedTile } from "../engine/generation";
import { positionAt } from "../engine/positions";
import { pickNearest, type Picked } from "../engine/pick";
import * as state from "../state";
import type { MapCamera } from "./camera";
import type { Spatial } from "./spatial";

/** Delay before the hovered document is read. */
const HOVER_DELAY_MS = 120;
/** Delay after a move before the map counts as idle. */
const SETTLE_MS = 100;
/** Pick radius in px; larger for touch. */
const PICK_RADIUS = { mouse: 8, touch: 18 };
/** Maximum movement of a click in px. */
const CLICK_SLOP = 5;

export interface Scene {
  tiles(): readonly LoadedTile[];
  pointSize(): number;
  shows(tile: LoadedTile, index: number): boolean;
  /** The cluster whose label is at a screen position. */
  labelAt(left: number, top: number): ClusterEntry | null;
  /** Zoom at which single documents are distinguishable. */
  closeZoom(): number;
  /** The 3-D view; null on the flat map. */
  space(): Spatial | null;
}

export class Pointing {
  /** Position of a hovering pointer; null while dragging or touching. */
  private pointer: { x: number; y: number } | null = null;
  /** The cluster whose label is under the pointer. */
  private hoveredLabel: ClusterEntry | null = null;
  private dwell = 0;
  private resting = 0;
  /** The last failed pin, for a retry. */
  private failed: (() => Promise<void>) | null = null;

  constructor(
    private readonly camera: MapCamera,
    private readonly generations: readonly Generation[],
    private readonly scene: Scene,
  ) {}

  listen(canvas: HTMLCanvasElement): void {
    let down: { x: number; y: number } | null = null;
    canvas.addEventListener("pointermove", (event) => {
      this.pointer = event.buttons === 0 ? hoverPosition(event) : null;
      this.hover();
    });
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.clear();
    });
    canvas.addEventListener("pointerdown", (event) => {
      down = { x: event.clientX, y: event.clientY };
      this.pointer = null;
      this.clear();
    });
    canvas.addEventListener("pointerup", (event) => {
      this.pointer = hoverPosition(event);
      if (!down || Math.hypot(event.clientX - down.x, event.clientY - down.y) > CLICK_SLOP) return this.look();
      const label = this.scene.labelAt(event.offsetX, event.offsetY);
      if (label) return this.choose(label);
      const picked = this.pick(event.offsetX, event.offsetY, event.pointerType === "touch" ? PICK_RADIUS.touch : PICK_RADIUS.mouse);
      if (picked) void this.pin(picked);
      else state.pinned.value = null;
    });
  }

  /** A click on a label isolates its cluster; another click shows all clusters again. */
  private choose(cluster: ClusterEntry): void {
    const ref = `${cluster.layer}.${cluster.id}`;
    const alone = state.isolated.value.size === 1 && state.isolated.value.has(ref);
    state.pinned.value = null;
    state.isolated.value = new Set(alone ? [] : [ref]);
  }

  /** Retry the pin that failed. */
  retry(): void {
    if (this.failed) void this.whilePinning(this.failed);
  }

  /** Clear the hover until the pointer moves over the map again. */
  leave(): void {
    clearTimeout(this.resting);
    this.pointer = null;
    this.clear();
  }

  get onLabel(): boolean {
    return this.hoveredLabel !== null;
  }

  /** The map moved under the pointer: hover again once it is idle. */
  mapMoved(): void {
    this.clear();
    this.look();
  }

  /** Hover again under a resting pointer: the visible points have changed. */
  look(): void {
    clearTimeout(this.resting);
    if (this.pointer) this.resting = window.setTimeout(() => this.hover(), SETTLE_MS);
  }

  /** Pin the document nearest the middle of the window, for keyboard use. */
  async pinCentre(): Promise<void> {
    const { width, height } = this.camera.size();
    const picked = this.pick(width / 2, height / 2, Math.min(width, height) / 4);
    if (picked) await this.pin(picked);
    else state.notice.value = "No document lies near the middle of the window.";
  }

  /** Pin a document by its row id, from an address or an exemplar. */
  async pinRow(rowId: number, move: boolean): Promise<void> {
    await this.whilePinning(async () => {
      const found = await locate(this.generations, rowId);
      if (!found) {
        state.notice.value = `No document of this map has the row id ${rowId}.`;
        return;
      }
      await this.pinPosition(found.generation, found.position, move);
    });
  }

  /** Pin a document by its generation and position. */
  async pinAt({ generation, position }: state.Row): Promise<void> {
    await this.whilePinning(() => this.pinPosition(generation, position, true));
  }

  private async pinPosition(generation: Generation, position: number, move: boolean): Promise<void> {
    const info = await generation.tileOf(position);
    const [document, tile] = await Promise.all([generation.document(position), generation.tile(info)]);
    const i = position - info.first;
    // If this fails, the map reports it, and the tile's own position is used.
    if (generation.isCoarse(tile, this.camera.scale)) await generation.refine(tile).catch(() => undefined);
    const [x, y] = positionAt(tile, i);
    state.pinned.value = { x, y, cluster: tile.cluster[i], document, generation: generation.number, position };
    state.notice.value = null;
    if (!move) return;
    await layoutSettled();
    const space = this.scene.space();
    if (space) space.reveal(state.pinned.value);
    else this.camera.reveal(x, y, Math.max(this.camera.place.zoom, this.scene.closeZoom()));
  }

  private pick(left: number, top: number, reach: number): Picked<LoadedTile> | null {
    const space = this.scene.space();
    if (space) return space.pick(left, top, reach);
    const [x, y] = this.camera.unproject(left, top);
    const within = Math.max(reach, this.scene.pointSize()) / this.camera.scale;
    return pickNearest(this.scene.tiles(), x, y, within, (tile, i) => this.scene.shows(tile, i));
  }

  private async pin({ tile, index, x, y }: Picked<LoadedTile>): Promise<void> {
    await this.whilePinning(async () => {
      const document = await tile.generation.document(tile.info.first + index);
      state.pinned.value = { x, y, cluster: tile.cluster[index], document, generation: tile.generation.number, position: tile.info.first + index };
      state.notice.value = null;
      await layoutSettled();
      const space = this.scene.space();
      if (space) space.reveal(state.pinned.value);
      else this.camera.reveal(x, y);
    });
  }

  private async whilePinning(work: () => Promise<void>): Promise<void> {
    state.pinning.value = true;
    this.failed = null;
    try {
      await work();
    } catch (error) {
      this.failed = work;
      state.report("Document", error as Error);
    } finally {
      state.pinning.value = false;
    }
  }

  private clear(): void {
    clearTimeout(this.dwell);
    if (this.hoveredLabel) state.pointed.value = this.hoveredLabel = null;
    state.hovered.value = null;
    state.hoverCard.value = null;
  }

  private hover(): void {
    if (!this.pointer) return;
    const label = this.scene.labelAt(this.pointer.x, this.pointer.y);
    if (label !== this.hoveredLabel) this.clear();
    if (label) return void (state.pointed.value = this.hoveredLabel = label);
    const picked = this.pick(this.pointer.x, this.pointer.y, PICK_RADIUS.mouse);
    if (!picked) return this.clear();
    const { tile, index, x, y } = picked;
    const position = tile.info.first + index;
    const { generation } = tile;
    const old = state.hovered.value;
    if (old && old.position === position && old.generation === generation.number) return;
    clearTimeout(this.dwell);
    state.hoverCard.value = null;
    state.hovered.value = { generation: generation.number, position, x, y, cluster: tile.cluster[index], document: null, failed: false };
    generation.prefetch(position);
    this.dwell = window.setTimeout(() => {
      const space = this.scene.space();
      const at = space ? state.hovered.value && space.project(state.hovered.value) : this.camera.project(x, y);
      if (at) state.hoverCard.value = { left: at[0], top: at[1] };
      const still = () => state.hovered.value?.position === position && state.hovered.value.generation === generation.number;
      generation
        .document(position)
        .then((document) => {
          if (still()) state.hovered.value = { ...state.hovered.value!, document };
        })
        .catch(() => {
          if (still()) state.hovered.value = { ...state.hovered.value!, failed: true };
        });
    }, HOVER_DELAY_MS);
  }
}

const hoverPosition = (event: PointerEvent): { x: number; y: number } | null =>
  event.pointerType === "touch" ? null : { x: event.offsetX, y: event.offsetY };
