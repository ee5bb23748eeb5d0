/** The page's only deck.gl layer: each visible tile is one draw call of points, coloured through a palette texture. */

import { Layer, type LayerProps, type UpdateParameters } from "@deck.gl/core";
import type { Buffer, Device, RenderPass, Texture } from "@luma.gl/core";
import { Model } from "@luma.gl/engine";
import type { LoadedTile } from "../engine/generation";
import type { Palette } from "../engine/colour";
import { STEPS } from "../engine/positions";
import type { SizeFactors } from "./size-factors";

/** luma.gl 9.4 parses uniform blocks by line: one member per line. */
const block = /* glsl */ `\
layout(std140) uniform pyramidUniforms {
  vec2 whole;
  vec2 rest;
  vec2 scale;
  float size;
  float opacity;
  float dimmed;
  float mode;
  float under;
  float pixelRatio;
  float dark;
  float share;
  float sized;
  float finer;
} pyramid;
`;

type PyramidUniforms = {
  whole: [number, number];
  rest: [number, number];
  scale: [number, number];
  size: number;
  opacity: number;
  dimmed: number;
  mode: number;
  under: number;
  pixelRatio: number;
  dark: number;
  share: number;
  sized: number;
  finer: number;
};

const pyramidModule = {
  name: "pyramid",
  vs: block,
  fs: block,
  uniformTypes: {
    whole: "vec2<f32>",
    rest: "vec2<f32>",
    scale: "vec2<f32>",
    size: "f32",
    opacity: "f32",
    dimmed: "f32",
    mode: "f32",
    under: "f32",
    pixelRatio: "f32",
    dark: "f32",
    share: "f32",
    sized: "f32",
    finer: "f32",
  },
} as const;

/**
 * Shader code by which a layer positions points, given `steps` along the tile's edges: declarations, position and size
 * factor, and code after the colour.
 */
export interface PointPlacement {
  declared: string;
  position: string;
  finish: string;
}

const FLAT: PointPlacement = {
  declared: "",
  // Subtract whole steps first, which is exact: the small remainder keeps precision near the centre.
  position: /* glsl */ `gl_Position = vec4((steps - pyramid.whole - pyramid.rest) * pyramid.scale, 0.0, 1.0);`,
  finish: "",
};

const vertexShader = ({ declared, position, finish }: PointPlacement): string => /* glsl */ `\
#version 300 es
#define SHADER_NAME pyramid-vertex
in vec2 positions;
in vec2 fines;
${declared}
in float clusters;
in float shades;
in float growths;
uniform sampler2D clusterPalette;
uniform sampler2D shadePalette;
out vec4 vColor;
out float vSize;

vec4 look(sampler2D palette, int index) {
  return texelFetch(palette, ivec2(index & 255, index >> 8), 0);
}

void main(void) {
  float grown = 1.0;
  vec2 steps = floor(positions * 65535.0 + 0.5) + (pyramid.finer > 0.0 ? (floor(fines * 255.0 + 0.5) + 0.5) * pyramid.finer : vec2(0.5));
  ${position}
  if (pyramid.sized > 0.5) grown *= growths;
  // What a search has not found lies half a step above its cluster.
  bool lit = fract(clusters) < 0.25;
  int cluster = int(floor(clusters)) + 1;
  // Not on the map any more.
  bool gone = cluster < 0;
  vec4 own = look(clusterPalette, max(cluster, 0));
  vec4 color = own;
  bool shown = own.a > 0.5;
  if (pyramid.mode > 1.5) {
    // What its colour follows from is not here: grey, never absent.
    color = look(clusterPalette, 0);
    shown = shown || pyramid.mode > 2.5;
  } else if (pyramid.mode > 0.5) {
    color = look(shadePalette, int(shades));
    shown = shown && color.a > 0.5;
  }
  shown = shown && lit;
  bool noise = pyramid.mode < 0.5 && cluster == 0;
  float alpha = pyramid.opacity * (noise ? 0.5 : 1.0);
  float size = pyramid.size * (noise ? 0.75 : 1.0);
  if (!shown) {
    // Hardly a hue left: dimmed points are ground, not a second picture.
    color.rgb = mix(color.rgb, look(clusterPalette, 0).rgb, 0.85);
    alpha = pyramid.dimmed;
    size *= 0.75;
  }
  vColor = vec4(color.rgb, alpha);
  vSize = clamp(size * grown * pyramid.pixelRatio, 1.0, 32.0);
  ${finish}
  gl_PointSize = vSize + 1.0;
  // Two passes: noise and dimmed points lie under the rest, whatever the order of the tiles.
  bool below = noise || !shown;
  // An even part of the tile's points, which lie in Morton order (Fibonacci hashing).
  bool left = float((gl_VertexID * 40503) & 65535) >= pyramid.share;
  if (gone || left || below != (pyramid.under > 0.5) || alpha <= 0.0) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
}
`;

const fs = /* glsl */ `\
#version 300 es
#define SHADER_NAME pyramid-fragment
precision highp float;
in vec4 vColor;
in float vSize;
out vec4 fragColor;

void main(void) {
  float r = length(gl_PointCoord - 0.5) * (vSize + 1.0);
  float edge = clamp(0.5 * vSize + 0.5 - r, 0.0, 1.0);
  float alpha = vColor.a * edge;
  if (alpha < 0.004) discard;
  // Where discs overlap they exceed their colour by a tenth, away from the ground, so that dense areas look dense.
  fragColor = pyramid.dark > 0.5 ? vec4(vColor.rgb * alpha, alpha * 0.9) : vec4(vColor.rgb * alpha * 0.92, alpha);
}
`;

export interface PyramidLayerProps extends LayerProps {
  tiles: readonly LoadedTile[];
  /** Colour of each cluster; alpha 0 means dimmed. */
  clusterPalette: Palette;
  /** Palette of the colour column, and the index of each point of a tile in it; null colours by cluster. */
  shadePalette: Palette | null;
  shades: ((tile: LoadedTile) => Uint8Array | Uint16Array | null) | null;
  /** Version of the values of `shades`. */
  shadeKey: string;
  /** Mask of the lit points of a tile, null for all; the others are dimmed. */
  lit: (tile: LoadedTile) => Uint8Array | null;
  litKey: string;
  /** Diameter factors by tile; null for uniform size. */
  growths: SizeFactors | null;
  pointSize: number;
  pointOpacity: number;
  dimmedOpacity: number;
  /** Whether clusters are unknown: all points are grey and none is dimmed. */
  plain: boolean;
  /** Whether the background is dark. */
  dark: boolean;
  /** Whether any point may be noise or dimmed, which needs two passes. */
  layered: boolean;
}

/** Shader program of a layer that positions points differently. */
export interface Program {
  placing: PointPlacement;
  fs: string;
  modules: readonly unknown[];
  layout: readonly { name: string; format: "float32x2" }[];
  depth: boolean;
}

interface TileBuffers {
  positions: Buffer;
  /** Refined positions between a tile's steps, if loaded. */
  fines: Buffer | null;
  placed: LoadedTile["xy"];
  clusters: Buffer;
  litKey: string;
  shades: Buffer | null;
  shadeKey: string;
  growths: Buffer | null;
  grownBy: SizeFactors | null;
}

const NO_EXTRAS = { uniforms: {}, attributes: {} };

export class PyramidLayer<Props extends PyramidLayerProps = PyramidLayerProps> extends Layer<Props> {
  static override layerName = "PyramidLayer";

  declare state: {
    model: Model;
    buffers: Map<LoadedTile, TileBuffers>;
    clusterTexture: Texture;
    shadeTexture: Texture;
  };

  protected program(): Program {
    return { placing: FLAT, fs, modules: [], layout: [], depth: false };
  }

  /** Additional uniforms and buffers of a tile; null if it cannot be drawn. */
  protected extra(_tile: LoadedTile): { uniforms: Record<string, Record<string, unknown>>; attributes: Record<string, Buffer> } | null {
    return NO_EXTRAS;
  }

  /** Release resources of a tile that is no longer drawn. */
  protected forget(_tile: LoadedTile): void {}

  /**
   * None, since deck.gl would set its own shader modules (picking, projection, lights), which this layer does not use.
   */
  override getModels(): Model[] {
    return [];
  }

  override initializeState(): void {
    const { device } = this.context;
    const clusterTexture = paletteTexture(device, this.props.clusterPalette);
    const shadeTexture = paletteTexture(device, this.props.shadePalette ?? this.props.clusterPalette);
    const program = this.program();
    const model = new Model(device, {
      id: `${this.props.id}-model`,
      vs: vertexShader(program.placing),
      fs: program.fs,
      modules: [pyramidModule, ...program.modules] as never[],
      topology: "point-list",
      bufferLayout: [
        { name: "positions", format: "unorm16x2" },
        { name: "fines", format: "unorm8x2" },
        { name: "clusters", format: "float32" },
        { name: "shades", format: "float32" },
        { name: "growths", format: "float32" },
        ...program.layout,
      ],
      parameters: {
        depthWriteEnabled: program.depth,
        depthCompare: program.depth ? "less-equal" : "always",
        blend: true,
        blendColorOperation: "add",
        blendColorSrcFactor: "one",
        blendColorDstFactor: "one-minus-src-alpha",
        blendAlphaOperation: "add",
        blendAlphaSrcFactor: "one",
        blendAlphaDstFactor: "one-minus-src-alpha",
      },
      bindings: { clusterPalette: clusterTexture, shadePalette: shadeTexture },
      vertexCount: 0,
    });
    this.setState({ model, buffers: new Map(), clusterTexture, shadeTexture });
  }

  override updateState({ props, oldProps }: UpdateParameters<this>): void {
    const { device } = this.context;
    if (props.clusterPalette !== oldProps.clusterPalette && oldProps.clusterPalette) {
      this.state.clusterTexture.destroy();
      this.setState({ clusterTexture: paletteTexture(device, props.clusterPalette) });
    }
    if (props.shadePalette !== oldProps.shadePalette && props.shadePalette) {
      this.state.shadeTexture.destroy();
      this.setState({ shadeTexture: paletteTexture(device, props.shadePalette) });
    }
    if (props.tiles !== oldProps.tiles) {
      const current = new Set(props.tiles);
      for (const [tile, buffers] of this.state.buffers) {
        if (current.has(tile)) continue;
        destroyBuffers(buffers);
        this.state.buffers.delete(tile);
        this.forget(tile);
      }
    }
    this.setNeedsRedraw();
  }

  override draw(): void {
    const { model, clusterTexture, shadeTexture } = this.state;
    const { tiles, pointSize, pointOpacity, dimmedOpacity, dark, layered, shades, plain } = this.props;
    const { viewport, renderPass, device } = this.context;
    const [cx, cy] = viewport.center;
    const scale = 2 ** viewport.zoom;
    const perUnit: [number, number] = [(2 * scale) / viewport.width, (2 * scale) / viewport.height];
    const pixelRatio = device.getDefaultCanvasContext().cssToDeviceRatio();
    model.setBindings({ clusterPalette: clusterTexture, shadePalette: shadeTexture });
    // In 3-D dimmed points are drawn last: they must not occlude what is behind them.
    const passes = !layered ? [0] : this.program().depth ? [0, 1] : [1, 0];
    for (const [under, tile] of passes.flatMap((under) => tiles.map((tile) => [under, tile] as const))) {
      const extra = this.extra(tile);
      if (!extra) continue;
      const buffers = this.buffersOf(tile);
      const { bounds } = tile;
      // Computed in double precision per tile; within a tile 65,536 steps are exact at any depth.
      const step = (bounds.x1 - bounds.x0) / STEPS;
      const middle = [(cx - bounds.x0) / step, (cy - bounds.y0) / step];
      const uniforms: PyramidUniforms = {
        whole: [Math.floor(middle[0]), Math.floor(middle[1])],
        rest: [middle[0] - Math.floor(middle[0]), middle[1] - Math.floor(middle[1])],
        scale: [step * perUnit[0], step * perUnit[1]],
        size: pointSize,
        opacity: pointOpacity,
        dimmed: dimmedOpacity,
        mode: plain && !buffers.shades ? 3 : !shades ? 0 : buffers.shades ? 1 : 2,
        under,
        pixelRatio,
        dark: dark ? 1 : 0,
        share: tile.share * 65536,
        sized: buffers.growths ? 1 : 0,
        finer: buffers.fines ? STEPS / tile.steps : 0,
      };
      model.setAttributes({
        positions: buffers.positions,
        fines: buffers.fines ?? buffers.positions,
        clusters: buffers.clusters,
        shades: buffers.shades ?? buffers.clusters,
        growths: buffers.growths ?? buffers.clusters,
        ...extra.attributes,
      });
      model.setVertexCount(tile.count);
      model.shaderInputs.setProps({ pyramid: uniforms, ...extra.uniforms });
      model.draw(renderPass as RenderPass);
    }
  }

  override finalizeState(): void {
    super.finalizeState(this.context);
    for (const [tile, buffers] of this.state.buffers) {
      destroyBuffers(buffers);
      this.forget(tile);
    }
    this.state.model.destroy();
    this.state.clusterTexture.destroy();
    this.state.shadeTexture.destroy();
  }

  private clustersOf(tile: LoadedTile): Float32Array {
    const mask = this.props.lit(tile);
    const clusters = new Float32Array(tile.cluster);
    if (mask) for (let i = 0; i < clusters.length; i++) if (!mask[i]) clusters[i] += 0.5;
    return clusters;
  }

  private buffersOf(tile: LoadedTile): TileBuffers {
    const { device } = this.context;
    let buffers = this.state.buffers.get(tile);
    if (!buffers) {
      buffers = {
        ...positionBuffers(device, tile),
        clusters: device.createBuffer({ data: this.clustersOf(tile) }),
        litKey: this.props.litKey,
        shades: null,
        shadeKey: "",
        growths: null,
        grownBy: null,
      };
      this.state.buffers.set(tile, buffers);
    }
    if (buffers.placed !== tile.xy) {
      buffers.positions.destroy();
      buffers.fines?.destroy();
      Object.assign(buffers, positionBuffers(device, tile));
    }
    const { shades, shadeKey, growths, litKey } = this.props;
    if (buffers.litKey !== litKey) {
      buffers.clusters.destroy();
      buffers.clusters = device.createBuffer({ data: this.clustersOf(tile) });
      buffers.litKey = litKey;
    }
    if (shades && buffers.shadeKey !== shadeKey) {
      const values = shades(tile);
      buffers.shades?.destroy();
      buffers.shades = values && device.createBuffer({ data: new Float32Array(values) });
      buffers.shadeKey = values ? shadeKey : "";
    } else if (!shades && buffers.shades) {
      buffers.shades.destroy();
      buffers.shades = null;
      buffers.shadeKey = "";
    }
    if (buffers.grownBy !== growths) {
      const values = growths?.of(tile);
      buffers.growths?.destroy();
      buffers.growths = values ? device.createBuffer({ data: values }) : null;
      buffers.grownBy = values ? growths : null;
    }
    return buffers;
  }
}

/** Position buffers: whole steps, and separately the refinement, since a single float cannot hold both. */
function positionBuffers(device: Device, { xy, steps, count }: LoadedTile): Pick<TileBuffers, "positions" | "fines" | "placed"> {
  if (xy instanceof Uint16Array) return { positions: device.createBuffer({ data: xy }), fines: null, placed: xy };
  const within = steps / STEPS;
  const [whole, rest] = [new Uint16Array(2 * count), new Uint8Array(2 * count)];
  for (let i = 0; i < xy.length; i++) {
    whole[i] = Math.floor(xy[i] / within);
    rest[i] = xy[i] % within;
  }
  return { positions: device.createBuffer({ data: whole }), fines: device.createBuffer({ data: rest }), placed: xy };
}

function destroyBuffers(buffers: TileBuffers): void {
  buffers.positions.destroy();
  buffers.fines?.destroy();
  buffers.clusters.destroy();
  buffers.shades?.destroy();
  buffers.growths?.destroy();
}

function paletteTexture(device: Device, { data, width, height }: Palette): Texture {
  const texture = device.createTexture({
    width,
    height,
    format: "rgba8unorm",
    sampler: { minFilter: "nearest", magFilter: "nearest" },
  });
  texture.writeData(data, { width, height });
  return texture;
}
