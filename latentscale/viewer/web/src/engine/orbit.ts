/** The 3-D orbit camera, and its continuous transition from the flat map. */

import type { Box } from "./lod";

export type Vector = readonly [x: number, y: number, z: number];

/** An orbit camera; angles in degrees. */
export interface Orbit {
  /** The point in the middle of the window; z is multiplied by the height factor. */
  target: Vector;
  /** Azimuth, around the vertical axis. */
  turn: number;
  /** Polar angle, from 0 (straight down) to `MAX_TILT`. */
  tilt: number;
  /** Distance to the target in map units. */
  distance: number;
}

/** The projection of an orbit, or of an intermediate state of the transition. */
export interface Frame {
  width: number;
  height: number;
  target: Vector;
  /** Unit vectors of the screen axes in space: right, up, towards the eye. */
  right: Vector;
  up: Vector;
  toward: Vector;
  /** Pixels per map unit at the target. */
  scale: number;
  /** 1 / distance of the eye; 0 for an orthographic projection. */
  perspective: number;
  /** Height factor; 0 for the flat map. */
  lift: number;
}

export const MAX_TILT = 88;
/** Focal length relative to the window's smaller side: a field of view of 34°. */
const FOCUS = 1.65;
/** Near plane, as a share of the eye's distance. */
export const NEAR = 0.06;

const RADIANS = Math.PI / 180;
const smallerSide = (size: { width: number; height: number }): number => Math.min(size.width, size.height);

/** Pixels per map unit at an orbit's target. */
export const scaleOf = (orbit: Orbit, size: { width: number; height: number }): number => (FOCUS * smallerSide(size)) / orbit.distance;

/** The projection at `share` (0 to 1) of the transition from the flat view to an orbit. */
export function frameOf(
  orbit: Orbit,
  size: { width: number; height: number },
  lift: number,
  flat: { x: number; y: number; scale: number },
  share = 1,
): Frame {
  const { width, height } = size;
  const turn = normalizedTurn(orbit.turn) * share * RADIANS;
  const tilt = orbit.tilt * share * RADIANS;
  const [sinTurn, cosTurn, sinTilt, cosTilt] = [Math.sin(turn), Math.cos(turn), Math.sin(tilt), Math.cos(tilt)];
  const mix = (from: number, to: number): number => from + (to - from) * share;
  // Interpolated geometrically.
  const scale = flat.scale * (scaleOf(orbit, size) / flat.scale) ** share;
  return {
    width,
    height,
    target: [mix(flat.x, orbit.target[0]), mix(flat.y, orbit.target[1]), orbit.target[2] * share],
    right: [cosTurn, sinTurn, 0],
    up: [-sinTurn * cosTilt, cosTurn * cosTilt, sinTilt],
    toward: [sinTurn * sinTilt, -cosTurn * sinTilt, cosTilt],
    scale,
    perspective: (share * scale) / (FOCUS * smallerSide(size)),
    lift: lift * share,
  };
}

/** The same angle in [-180, 180). */
export const normalizedTurn = (turn: number): number => ((((turn + 180) % 360) + 360) % 360) - 180;

const dot = (a: Vector, b: Vector): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/** Project a position to the screen, with its depth towards the eye; null behind the near plane. */
export function project(frame: Frame, x: number, y: number, z: number): [left: number, top: number, toward: number] | null {
  const { target, right, up, toward, scale, perspective, lift, width, height } = frame;
  const from: Vector = [x - target[0], y - target[1], z * lift - target[2]];
  const near = dot(toward, from);
  const w = 1 - near * perspective;
  if (w < NEAR) return null;
  return [width / 2 + (dot(right, from) * scale) / w, height / 2 - (dot(up, from) * scale) / w, near];
}

/** The orbit that fits a box at a height into the uncovered part of the window, apart from its corners. */
export function orbitAround(
  box: Box,
  z: number,
  size: { width: number; height: number },
  covered: { left: number; right: number; top: number; bottom: number },
  { turn, tilt }: { turn: number; tilt: number },
): Orbit {
  const free = Math.max(80, Math.min(size.width - covered.left - covered.right, 1.35 * (size.height - covered.top - covered.bottom)));
  // A rotated box is up to its diagonal wide, but maps are mostly empty at the corners.
  const across = 0.76 * Math.hypot(box.x1 - box.x0, box.y1 - box.y0) || 1e-6;
  const distance = (FOCUS * smallerSide(size) * across) / free;
  const scale = (FOCUS * smallerSide(size)) / distance;
  const orbit = { target: [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2, z] as Vector, turn, tilt, distance };
  return moved(orbit, (covered.left - covered.right) / 2 / scale, (covered.top - covered.bottom) / 2 / scale);
}

/** Limits of an orbit: the map's box and edge, its scaled height range, and its maximum width in px. */
export interface Bounds {
  box: Box;
  side: number;
  low: number;
  high: number;
  widest: number;
}

/** Minimum width of the map in px, and how far the target may leave the map, as a share of the window. */
const MIN_MAP_WIDTH = 60;
const MAX_OFFSET = 0.4;

/** Clamp an orbit so that some of the map stays visible, neither too far nor closer than its precision allows. */
export function clampOrbit(orbit: Orbit, { box, side, low, high, widest }: Bounds, size: { width: number; height: number }): Orbit {
  const scale = Math.min(widest / side, Math.max(MIN_MAP_WIDTH / side, scaleOf(orbit, size)));
  const margin = (MAX_OFFSET * smallerSide(size)) / scale;
  const within = (value: number, from: number, to: number): number => Math.min(to + margin, Math.max(from - margin, value));
  const [x, y, z] = orbit.target;
  return {
    ...orbit,
    distance: (FOCUS * smallerSide(size)) / scale,
    target: [within(x, box.x0, box.x1), within(y, box.y0, box.y1), within(z, low, high)],
  };
}

/** Pan by map units at the target, to the right and down on the screen. */
export function moved(orbit: Orbit, right: number, down: number): Orbit {
  const turn = orbit.turn * RADIANS;
  const tilt = orbit.tilt * RADIANS;
  const [sin, cos, sinTilt, cosTilt] = [Math.sin(turn), Math.cos(turn), Math.sin(tilt), Math.cos(tilt)];
  const [x, y, z] = orbit.target;
  return { ...orbit, target: [x - right * cos - down * sin * cosTilt, y - right * sin + down * cos * cosTilt, z + down * sinTilt] };
}

/** Rotate by degrees around the vertical, and tilt within the allowed range. */
export function turned(orbit: Orbit, degrees: number, tilt = 0): Orbit {
  return { ...orbit, turn: normalizedTurn(orbit.turn + degrees), tilt: Math.min(MAX_TILT, Math.max(0, orbit.tilt + tilt)) };
}

/** Interpolate between two orbits; `share` from 0 to 1. */
export function interpolateOrbits(from: Orbit, to: Orbit, share: number): Orbit {
  const mix = (a: number, b: number): number => a + (b - a) * share;
  return {
    target: [0, 1, 2].map((i) => mix(from.target[i], to.target[i])) as unknown as Vector,
    turn: from.turn + normalizedTurn(to.turn - from.turn) * share,
    tilt: mix(from.tilt, to.tilt),
    distance: from.distance * (to.distance / from.distance) ** share,
  };
}
