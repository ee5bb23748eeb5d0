/** Orbit control by pointer, wheel and touch. */

import { moved, scaleOf, turned, type Orbit } from "../engine/orbit";

/** Degrees per pixel. */
const TURN = 0.32;
const TILT = 0.26;
const WHEEL = 0.0016;

export interface OrbitHost {
  orbit(): Orbit;
  size(): { width: number; height: number };
  /** Apply user input. */
  take(orbit: Orbit): void;
}

interface PointerPosition {
  x: number;
  y: number;
}

/** Listen on the canvas. Returns a function that stops. */
export function listenForOrbit(canvas: HTMLCanvasElement, map: OrbitHost): () => void {
  const pointers = new Map<number, PointerPosition>();
  let isPanning = false;
  const begin = (event: PointerEvent): void => {
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    isPanning = event.shiftKey || event.button > 0;
    canvas.setPointerCapture(event.pointerId);
  };
  /** In the capture phase: Shift would start a box, and other buttons a context menu. */
  const interceptDown = (event: PointerEvent): void => {
    if (event.target !== canvas || (!event.shiftKey && event.button === 0)) return;
    event.stopPropagation();
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    begin(event);
  };
  const drag = (event: PointerEvent): void => {
    const old = pointers.get(event.pointerId);
    if (!old) return;
    const before = centroid(pointers);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const after = centroid(pointers);
    const [dx, dy] = [after.x - before.x, after.y - before.y];
    let orbit = map.orbit();
    if (pointers.size > 1) {
      // Two fingers pan and zoom, as on the flat map.
      if (before.spread > 0 && after.spread > 0) orbit = { ...orbit, distance: (orbit.distance * before.spread) / after.spread };
      orbit = panned(orbit, dx, dy);
    } else orbit = isPanning ? panned(orbit, dx, dy) : turned(orbit, -TURN * dx, -TILT * dy);
    map.take(orbit);
  };
  const panned = (orbit: Orbit, dx: number, dy: number): Orbit => {
    const scale = scaleOf(orbit, map.size());
    return moved(orbit, dx / scale, dy / scale);
  };
  const end = (event: PointerEvent): void => void pointers.delete(event.pointerId);
  const wheel = (event: WheelEvent): void => {
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
    map.take(zoomed(map.orbit(), Math.exp(-WHEEL * pixels), map.size(), event.offsetX, event.offsetY));
  };
  const preventMenu = (event: Event): void => event.preventDefault();
  addEventListener("pointerdown", interceptDown, true);
  canvas.addEventListener("pointerdown", begin);
  canvas.addEventListener("pointermove", drag);
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("contextmenu", preventMenu);
  return () => {
    removeEventListener("pointerdown", interceptDown, true);
    canvas.removeEventListener("pointerdown", begin);
    canvas.removeEventListener("pointermove", drag);
    canvas.removeEventListener("pointerup", end);
    canvas.removeEventListener("pointercancel", end);
    canvas.removeEventListener("wheel", wheel);
    canvas.removeEventListener("contextmenu", preventMenu);
  };
}

/** Zoom by a factor around a screen position. */
export function zoomed(orbit: Orbit, factor: number, size: { width: number; height: number }, left = size.width / 2, top = size.height / 2): Orbit {
  const [before, nearer] = [scaleOf(orbit, size), { ...orbit, distance: orbit.distance / factor }];
  const change = 1 / scaleOf(nearer, size) - 1 / before;
  return moved(nearer, (left - size.width / 2) * change, (top - size.height / 2) * change);
}

function centroid(held: ReadonlyMap<number, PointerPosition>): PointerPosition & { spread: number } {
  const points = [...held.values()];
  const x = points.reduce((sum, point) => sum + point.x, 0) / points.length;
  const y = points.reduce((sum, point) => sum + point.y, 0) / points.length;
  return { x, y, spread: points.length > 1 ? Math.hypot(points[0].x - points[1].x, points[0].y - points[1].y) : 0 };
}
