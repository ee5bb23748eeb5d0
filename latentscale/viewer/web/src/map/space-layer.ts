/** The point layer of the 3-D view: perspective, with distant points smaller and fading into the background. */

import type { Buffer } from "@luma.gl/core";
import { GROUND } from "../engine/colour";
import type { LoadedTile } from "../engine/generation";
import { STEPS } from "../engine/positions";
import { NEAR, type Frame } from "../engine/orbit";
import type { TileHeights } from "./heights";
import { PyramidLayer, type Program, type PyramidLayerProps } from "./pyramid-layer";

/** Share of its colour that the farthest point loses to haze. */
const HAZE = 0.6;
/** Size factors in the sparsest and densest regions, if size follows density. */
const SPARSE = 1.9;
const DENSE = 0.55;

const block = /* glsl */ `\
layout(std140) uniform spaceUniforms {
  vec4 corner;
  vec4 right;
  vec4 up;
  vec4 toward;
  vec4 ground;
  float stride;
  float lift;
  float perspective;
  float reach;
  float haze;
  float uneven;
} space;
`;

const spaceModule = {
  name: "space",
  vs: block,
  fs: block,
  uniformTypes: {
    corner: "vec4<f32>",
    right: "vec4<f32>",
    up: "vec4<f32>",
    toward: "vec4<f32>",
    ground: "vec4<f32>",
    stride: "f32",
    lift: "f32",
    perspective: "f32",
    reach: "f32",
    haze: "f32",
    uneven: "f32",
  },
} as const;

const placing = {
  declared: "in vec2 heights;\nout float vHaze;",
  position: /* glsl */ `
  vec3 from = vec3(space.corner.xy + steps * space.stride, heights.x * space.lift + space.corner.z);
  float near = dot(space.toward.xyz, from);
  float w = 1.0 - near * space.perspective;
  float depth = clamp(-near / space.reach, -0.999, 0.999);
  gl_Position = vec4(dot(space.right.xyz, from), dot(space.up.xyz, from), depth * w, w);
  grown = mix(1.0, 1.0 / max(w, ${NEAR.toFixed(2)}), 0.85) * mix(1.0, mix(${SPARSE.toFixed(2)}, ${DENSE.toFixed(2)}, sqrt(heights.y)), space.uneven);
  vHaze = space.haze * smoothstep(-0.45, 0.95, depth);`,
  finish: `if (w < ${NEAR.toFixed(2)}) alpha = 0.0;`,
};

const fs = /* glsl */ `\
#version 300 es
#define SHADER_NAME space-fragment
precision highp float;
in vec4 vColor;
in float vSize;
in float vHaze;
out vec4 fragColor;

void main(void) {
  vec2 at = (gl_PointCoord - 0.5) * (vSize + 1.0) / max(0.5 * vSize, 0.5);
  float r = length(at) * 0.5 * vSize;
  // What hardly covers a pixel must not hide what lies behind it: dense clouds would be full of dark rings.
  float edge = clamp(0.5 * vSize + 0.5 - r, 0.0, 1.0);
  if (edge < 0.35) discard;
  float alpha = vColor.a * mix(1.0, edge, 0.45);
  // Large points look like balls lit from above: a faint shade of the edge away from the light.
  float ball = smoothstep(4.0, 10.0, vSize) * 0.22 * clamp(dot(at, vec2(0.35, 0.75)), -0.5, 1.0);
  vec3 color = mix(vColor.rgb * (1.0 - ball), space.ground.rgb, vHaze);
  fragColor = vec4(color * alpha, alpha);
}
`;

export interface SpaceLayerProps extends PyramidLayerProps {
  frame: Frame;
  /** Maximum distance of points from the target, in map units. */
  reach: number;
  /** Progress of the transition from the flat map, 0 to 1. */
  share: number;
  /** Whether points in sparse regions are larger. */
  uneven: boolean;
  heights: (tile: LoadedTile) => TileHeights | null;
}

export class SpaceLayer extends PyramidLayer<SpaceLayerProps> {
  static override layerName = "SpaceLayer";

  /** deck.gl creates a new layer per update and passes its state on. */
  private get made(): Map<LoadedTile, Buffer> {
    return (this.state as unknown as { made: Map<LoadedTile, Buffer> }).made;
  }

  override initializeState(): void {
    super.initializeState();
    this.setState({ made: new Map<LoadedTile, Buffer>() });
  }

  protected override program(): Program {
    return { placing, fs, modules: [spaceModule], layout: [{ name: "heights", format: "float32x2" }], depth: true };
  }

  protected override extra(tile: LoadedTile) {
    const { frame, reach, share, uneven, heights, dark } = this.props;
    const found = heights(tile);
    if (!found) return null;
    let buffer = this.made.get(tile);
    if (!buffer) this.made.set(tile, (buffer = this.context.device.createBuffer({ data: found.values })));
    const across = (2 * frame.scale) / frame.width;
    const along = (2 * frame.scale) / frame.height;
    const ground = GROUND[dark ? "dark" : "light"];
    return {
      attributes: { heights: buffer },
      uniforms: {
        space: {
          // Computed in double precision, per tile.
          corner: [tile.bounds.x0 - frame.target[0], tile.bounds.y0 - frame.target[1], -frame.target[2], 0],
          right: [...frame.right.map((v) => v * across), 0],
          up: [...frame.up.map((v) => v * along), 0],
          toward: [...frame.toward, 0],
          ground: [...ground.map((v) => v / 255), 1],
          stride: (tile.bounds.x1 - tile.bounds.x0) / STEPS,
          lift: frame.lift,
          perspective: frame.perspective,
          reach,
          haze: HAZE * share,
          uneven: uneven ? share : 0,
        },
      },
    };
  }

  protected override forget(tile: LoadedTile): void {
    this.made.get(tile)?.destroy();
    this.made.delete(tile);
  }
}
