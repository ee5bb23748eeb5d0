/** Box and lasso selection: with Shift and a drag, or with a selection tool, which also works by touch. */

import type { Operation } from "../engine/selection";

/** Minimum extent of a shape in px; less is a click. */
const MIN_SIZE = 4;
/** Distance in px between lasso vertices. */
const LASSO_STEP = 3;
const SVG = "http://www.w3.org/2000/svg";

export type Corner = [left: number, top: number];
export type Tool = "box" | "lasso";

export interface ShapeHost {
  /** Whether the map is flat: a shape drawn over a 3-D map has no area on it. */
  flat(): boolean;
  /** The active tool; null if only Shift starts a shape. */
  tool(): Tool | null;
  /** How a shape is combined with the selection, without modifier keys. */
  operation(): Operation;
  /** A shape was started: hovering ends. */
  begun(): void;
  done(corners: Corner[], operation: Operation): void;
}

/**
 * The shape that a pointer event starts, or null. Without a tool Shift starts one and has no other meaning; with one,
 * Shift adds and Alt subtracts.
 */
function requestedShape(event: PointerEvent, drawing: ShapeHost): { tool: Tool; operation: Operation } | null {
  if (!drawing.flat()) return null;
  const tool = drawing.tool();
  const operation = drawing.operation();
  if (!tool) return event.shiftKey ? { tool: event.altKey ? "lasso" : "box", operation } : null;
  const { shiftKey, altKey } = event;
  return { tool, operation: shiftKey && altKey ? "intersect" : shiftKey ? "add" : altKey ? "subtract" : operation };
}

/** Listen on the canvas's parent in the capture phase, so that the map does not pan. Returns a function that stops. */
export function listenForShapes(stage: HTMLElement, canvas: HTMLCanvasElement, drawing: ShapeHost): () => void {
  let active: { tool: Tool; operation: Operation; pointer: number } | null = null;
  let corners: Corner[] = [];
  let outline: SVGSVGElement | null = null;
  const end = (): void => {
    active = null;
    outline?.remove();
    outline = null;
    removeEventListener("pointermove", move, true);
    removeEventListener("pointerup", up, true);
    removeEventListener("pointercancel", end, true);
  };
  const at = (event: PointerEvent): Corner => {
    const { left, top } = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  const extend = (to: Corner): void => {
    const [first, last] = [corners[0], corners[corners.length - 1]];
    if (active!.tool === "box") corners = [first, [to[0], first[1]], to, [first[0], to[1]]];
    else if (Math.hypot(to[0] - last[0], to[1] - last[1]) >= LASSO_STEP) corners.push(to);
  };
  const move = (event: PointerEvent): void => {
    event.stopPropagation();
    if (event.pointerId !== active!.pointer) return;
    extend(at(event));
    if (!outline) {
      outline = document.createElementNS(SVG, "svg");
      outline.setAttribute("class", "selection");
      outline.append(document.createElementNS(SVG, "polygon"));
      stage.append(outline);
    }
    outline.firstElementChild!.setAttribute("points", corners.map((corner) => corner.map((v) => v.toFixed(1)).join()).join(" "));
  };
  const up = (event: PointerEvent): void => {
    event.stopPropagation();
    if (event.pointerId !== active!.pointer) return;
    extend(at(event));
    const [drawn, { operation }] = [corners, active!];
    end();
    const spread = (axis: 0 | 1) => Math.max(...drawn.map((corner) => corner[axis])) - Math.min(...drawn.map((corner) => corner[axis]));
    if (drawn.length > 2 && spread(0) > MIN_SIZE && spread(1) > MIN_SIZE) drawing.done(drawn, operation);
  };
  const down = (event: PointerEvent): void => {
    const requested = event.button === 0 && event.target === canvas ? requestedShape(event, drawing) : null;
    if (!requested && !active) return;
    event.stopPropagation();
    event.preventDefault();
    // A second finger cancels the shape.
    if (active || !requested) return end();
    active = { ...requested, pointer: event.pointerId };
    corners = [at(event)];
    drawing.begun();
    addEventListener("pointermove", move, true);
    addEventListener("pointerup", up, true);
    addEventListener("pointercancel", end, true);
  };
  stage.addEventListener("pointerdown", down, true);
  return () => {
    end();
    stage.removeEventListener("pointerdown", down, true);
  };
}
