/**
 * Parts of the libraries that this page never calls, and that no bundler can see to be unused: a map of the earth, picking
 * by the graphics processor, lights, attributes that glide, shaders for WebGPU, and kinds of parquet values that no file of a map has.
 */

import type { Plugin } from "vite";

const never = (...names: string[]): string =>
  names.map((name) => `export function ${name}() { throw new Error("${name} is left out of this page"); }`).join("\n");

/** By the end of the file's path: what stands there instead. */
const INSTEAD: Record<string, string> = {
  // The view of a Deck that is given none; this page gives it its own.
  "@deck.gl/core/dist.webgl-only/views/map-view.js": "export default class MapView {}",
  // Layers here are not pickable: the page finds points on the processor. Each press of a pointer asks all the same.
  "@deck.gl/core/dist.webgl-only/lib/deck-picker.js": `
    export default class DeckPicker {
      setProps() {}
      finalize() {}
      pickObject({ x, y }) { return { result: [], emptyInfo: this.getLastPickedObject({ x, y }) }; }
      async pickObjectAsync(at) { return this.pickObject(at); }
      getLastPickedObject({ x, y }) { return { color: null, layer: null, index: -1, picked: false, x, y }; }
    }`,
  "@deck.gl/core/dist.webgl-only/effects/lighting/lighting-effect.js": `
    export default class LightingEffect {
      id = "lighting-effect";
      props = {};
      setup() {}
      setProps() {}
      preRender() {}
      getShaderModuleProps() { return {}; }
      cleanup() {}
    }`,
  // Attributes of layers here do not glide from value to value; with these goes arithmetic of doubled floats.
  "@deck.gl/core/dist.webgl-only/transitions/gpu-interpolation-transition.js": "export default class GPUInterpolationTransition {}",
  "@deck.gl/core/dist.webgl-only/transitions/gpu-spring-transition.js": "export default class GPUSpringTransition {}",
  "@luma.gl/shadertools/dist/lib/shader-assembly/wgsl-binding-debug.js": never("getShaderBindingDebugRowsFromWGSL"),
  "@luma.gl/shadertools/dist/lib/shader-assembly/wgsl-interface-scan.js": never("scanWGSLInterface"),
  "hyparquet/src/variant.js": never("decodeVariantColumn"),
  "hyparquet/src/wkb.js": never("wkbToGeojson"),
  "hyparquet/src/geoparquet.js": "export function markGeoColumns() {}",
  "hyparquet/src/bloom.js": never("readBloomFilter", "hashParquetValue", "sbbfContains") + "\nexport const bloomEligibleColumns = () => [];",
  // Nothing is filtered while it is read.
  "hyparquet/src/filter.js": `
    export const pathsNeededForFilter = () => [];
    export const columnsNeededForFilter = () => [];
    export const canSkipRowGroup = () => false;
    ${never("matchFilter", "filterPageRanges", "intersectRanges", "unionRanges")}`,
};

export function leaveOut(): Plugin {
  const met = new Set<string>();
  return {
    name: "leave-out",
    apply: "build",
    load(id) {
      const path = id.replaceAll("\\", "/").replace(/\?.*$/, "");
      const end = Object.keys(INSTEAD).find((one) => path.endsWith(`/node_modules/${one}`));
      if (!end) return null;
      met.add(end);
      return INSTEAD[end];
    },
    // Another version of a library may keep it elsewhere: then nothing would be left out, and nobody would know.
    buildEnd(error) {
      const lost = Object.keys(INSTEAD).filter((end) => !met.has(end));
      if (!error && lost.length) this.error(`not met while bundling, so not left out: ${lost.join(", ")}`);
    },
  };
}
