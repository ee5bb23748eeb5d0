/** Start: the manifest, then the root tile and the labels at once, then everything else. */

import { render } from "preact";
import { effect } from "@preact/signals";
import { readAddress, writeAddress } from "./engine/address";
import { checkManifest, ViewerError, type ClusterDetail, type ClusterEntry, type LabelsFile, type Manifest } from "./engine/format";
import { Generation, locate } from "./engine/generation";
import type { Box } from "./engine/lod";
import { alive, mergeIndexes } from "./engine/merge";
import { betterScale } from "./engine/scale";
import { MissingFile, Store } from "./engine/store";
import type { Camera } from "./map/camera";
import { MapView } from "./map/map-view";
import * as state from "./state";
import { commands } from "./commands";
import { settled } from "./covers";
import { App } from "./ui/app";
import { panelAddress, restorePanels } from "./ui/panel-registry";

const address = readAddress(location.hash);
const dark = matchMedia("(prefers-color-scheme: dark)");
state.theme.value = address.theme ?? (dark.matches ? "dark" : "light");
state.themeChosen.value = address.theme !== undefined;
dark.addEventListener("change", () => {
  if (!state.themeChosen.value) state.theme.value = dark.matches ? "dark" : "light";
});
effect(() => {
  document.documentElement.dataset.theme = state.theme.value;
});
restorePanels(address);

const root = document.getElementById("app")!;
root.replaceChildren();
render(<App />, root);
void start();

async function start(): Promise<void> {
  const store = new Store(location.href.replace(/[?#].*$/, ""));
  try {
    // The one file that changes: a copy that the browser kept may name generations of yesterday.
    const manifest = alive(checkManifest(await store.json<Manifest>("manifest.json", { fresh: true })));
    document.title = manifest.title;
    const generations = manifest.generations.map((entry, i) => new Generation(i, entry, store));
    const labels = store.json<LabelsFile>(`${manifest.labels}labels.json`);
    state.manifest.value = manifest;
    state.generations.value = generations;
    if (!document.createElement("canvas").getContext("webgl2"))
      throw new ViewerError("This browser offers no WebGL 2, by which the map is drawn.");
    const map = show(manifest, generations);
    const file = await labels;
    restore(file);
    state.labels.value = file;
    keepAddress(map);
    const parts = generations.map(async (generation) => {
      const [index, { counts }] = await Promise.all([generation.index(), generation.removed()]);
      return { entry: generation.entry, index, removed: counts };
    });
    const [details, all] = await Promise.all([store.json<ClusterDetail[]>(`${manifest.labels}clusters.json`), Promise.all(parts)]);
    state.details.value = details;
    state.index.value = mergeIndexes(all);
    if (address.pinned !== undefined) await map.pointing.pinRow(address.pinned, !address.view);
  } catch (error) {
    state.trouble.value = explain(error as Error);
  }
}

function show(manifest: Manifest, generations: Generation[]): MapView {
  const last = manifest.generations[manifest.generations.length - 1];
  const body = boxOf([last.view]);
  const whole = boxOf(manifest.generations.map((entry) => entry.extent));
  let camera: Camera | null = null;
  if (address.view) {
    const [x, y, span] = address.view;
    camera = { x, y, zoom: Math.log2(Math.min(innerWidth, innerHeight) / span) };
  }
  const map = new MapView(
    {
      canvas: document.getElementById("canvas") as HTMLCanvasElement,
      labels: document.getElementById("labels")!,
      overlay: document.getElementById("overlay") as unknown as SVGSVGElement,
    },
    generations,
    camera,
    body,
    Math.max(whole.x1 - whole.x0, whole.y1 - whole.y0, last.side / 1024),
  );
  Object.assign(commands, {
    home: () => map.camera.moveTo(map.camera.fit(body)),
    whole: () => map.camera.moveTo(map.camera.fit(whole)),
    zoom: (steps: number) => map.camera.zoomBy(steps),
    pan: (right: number, up: number) => map.camera.panBy(right, up),
    reveal: (cluster: ClusterEntry) => void settled().then(() => revealCluster(map, cluster)),
    pinRow: (rowId: number) => void map.pointing.pinRow(rowId, true),
    pinCentre: () => void map.pointing.pinCentre(),
    document: async (rowId: number) => {
      const found = await locate(generations, rowId);
      return found && found.generation.document(found.position);
    },
  });
  return map;
}

function boxOf(boxes: [number, number, number, number][]): Box {
  const least = (i: number) => Math.min(...boxes.map((box) => box[i]));
  const most = (i: number) => Math.max(...boxes.map((box) => box[i]));
  return { x0: least(0), y0: least(1), x1: most(2), y1: most(3) };
}

/** Move to a cluster only if nothing of it can be seen: who looks at a part of it means to stay. */
function revealCluster({ camera }: MapView, cluster: ClusterEntry): void {
  const { x, y } = cluster;
  if (x === null || y === null) return;
  const flat = state.details.value?.[state.labels.value!.clusters.indexOf(cluster)]?.hull ?? [];
  const xs = [x, ...flat.filter((_, i) => i % 2 === 0)];
  const ys = [y, ...flat.filter((_, i) => i % 2 === 1)];
  const view = camera.view();
  const seen =
    Math.max(...xs) > view.x0 && Math.min(...xs) < view.x1 && Math.max(...ys) > view.y0 && Math.min(...ys) < view.y1;
  if (!seen) camera.reveal(x, y);
}

function restore(labels: LabelsFile): void {
  const known = new Set(labels.clusters.map((c) => `${c.layer}.${c.id}`));
  const refs = (address.clusters ?? []).filter((ref) => ref === "n" || known.has(ref));
  if (refs.length) state.isolated.value = new Set(refs);
  if (address.colour) state.colour.value = address.colour;
  if (address.scale) {
    state.scale.value = address.scale;
    state.scaleChosen.value = true;
  }
  if (address.categories?.length) state.categories.value = new Set(address.categories);
  effect(() => {
    const column = state.column.value;
    if (column && column.kind !== "categories" && !state.scaleChosen.value) state.scale.value = betterScale(column);
  });
}

function keepAddress(map: MapView): void {
  let timer = 0;
  let moved = address.view !== undefined;
  const write = (): void => {
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      const { x, y, zoom } = map.camera.place;
      const { width, height } = map.camera.size();
      const hash = writeAddress({
        view: moved ? [x, y, Math.min(width, height) / 2 ** zoom] : undefined,
        theme: state.themeChosen.value ? state.theme.value : undefined,
        colour: state.colour.value,
        scale: state.scaleChosen.value ? state.scale.value : undefined,
        clusters: [...state.isolated.value],
        categories: [...state.categories.value],
        ...panelAddress(),
        pinned: state.pinned.value?.document.rowId ?? (state.index.value ? undefined : address.pinned),
      });
      history.replaceState(null, "", hash || location.pathname + location.search);
    }, 250);
  };
  map.onCamera = () => {
    moved = true;
    write();
  };
  effect(() => {
    void [state.theme.value, state.themeChosen.value, state.colour.value, state.scale.value, state.scaleChosen.value];
    void [state.isolated.value, state.categories.value, state.pinned.value, state.index.value];
    void panelAddress();
    write();
  });
  addEventListener("hashchange", () => location.reload());
}

function explain(error: Error): state.Trouble {
  if (error instanceof MissingFile)
    return {
      title: "The map's files are not here",
      text: `${error.message} The page needs the whole workspace, not only its viewer folder. Serve the folder above this one:`,
      command: "latentscale view WORKSPACE",
    };
  if (error instanceof ViewerError) return { title: "The map cannot be shown", text: error.message };
  return {
    title: "The map could not be read",
    text: `${error.message}. If the server is running, look at the address, and at its rules for other sites (CORS).`,
  };
}

