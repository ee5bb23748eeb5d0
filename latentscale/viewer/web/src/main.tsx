/** Entry point: reads the manifest, then the root tile and the labels in parallel, then the rest. */

import { effect } from "@preact/signals";
import { render } from "preact";
import { commands } from "./commands";
import { layoutSettled } from "./obstacles";
import { readAddress } from "./engine/address";
import { EMBEDDED_BASE, embeddedFiles } from "./engine/embedded";
import { checkManifest, ViewerError, type ClusterEntry, type Manifest } from "./engine/format";
import { Generation, locate } from "./engine/generation";
import type { Box } from "./engine/lod";
import { withoutEmptyGenerations } from "./engine/merge";
import type { Selection } from "./engine/selection";
import { boxShape, type Shape } from "./engine/shape";
import { MissingFile, Store } from "./engine/store";
import { watchFilters } from "./filter-effects";
import { watchSearch } from "./document-search";
import type { Camera } from "./map/camera";
import { MapView } from "./map/map-view";
import { clusterBox } from "./map/reveal";
import { SideFiles } from "./side-files";
import { selectShown } from "./selecting";
import * as state from "./state";
import { App } from "./ui/app";
import { applyAddress, syncAddress, viewChanged, withoutHistoryStep } from "./address-sync";

/** After so many lost WebGL contexts within a minute, give up: the machine cannot draw this map. */
const MAX_LOSSES = 3;

const address = readAddress(location.hash);
applyAddress(address);
effect(() => {
  document.documentElement.dataset.theme = state.theme.value;
});
const root = document.getElementById("app")!;
root.replaceChildren();
render(<App />, root);
void start();

async function start(): Promise<void> {
  const embedded = embeddedFiles();
  state.inOneFile.value = embedded !== null;
  const store = embedded ? new Store(EMBEDDED_BASE, embedded) : new Store(location.href.replace(/[?#].*$/, ""));
  try {
    // The only mutable file: a cached copy may name outdated generations.
    const manifest = withoutEmptyGenerations(checkManifest(await store.json<Manifest>("manifest.json", { fresh: true })));
    document.title = manifest.title;
    const generations = manifest.generations.map((entry, i) => new Generation(i, entry, store));
    const sideFiles = new SideFiles(store, manifest, generations);
    state.generations.value = generations;
    state.manifest.value = manifest;
    if (!document.createElement("canvas").getContext("webgl2"))
      throw new ViewerError("This browser does not support WebGL 2, which draws the map.");
    const map = show(manifest, generations);
    commands.retry = () => {
      store.forget();
      state.problems.value = new Map();
      state.retries.value += 1;
      map().retry();
      sideFiles.read().catch((error: Error) => (state.trouble.value = describeError(error)));
    };
    watchSearch(generations);
    const channelName = new URLSearchParams(location.search).get("linked");
    if (channelName) void import("./linked-pages").then(({ linkPages }) => linkPages(channelName, generations)).catch((error: Error) => state.report("The other map", error));
    // Selections are only ever sent to a server on this machine, never to a static host.
    const token = new URLSearchParams(location.search).get("tell");
    if (token && /^(127\.0\.0\.1|localhost|\[::1\])$/.test(location.hostname))
      void import("./notebook").then(({ reportSelections }) => reportSelections(token)).catch((error: Error) => state.report("The notebook", error));
    watchFilters();
    syncAddress(map, () => map().camera.hold(bodyOf(manifest)));
    await withoutHistoryStep(map, async () => {
      await sideFiles.read();
      if (address.pinned !== undefined) await map().pointing.pinRow(address.pinned, !address.view);
    });
  } catch (error) {
    state.trouble.value = describeError(error as Error);
  }
}

const bodyOf = ({ generations }: Manifest): Box => boxOf([generations[generations.length - 1].view]);

/**
 * Draw the map, and redraw it on a new canvas when the WebGL context is lost. Returns a getter of the current view.
 */
function show(manifest: Manifest, generations: Generation[]): () => MapView {
  const body = bodyOf(manifest);
  const whole = boxOf(manifest.generations.map((entry) => entry.extent));
  // If all documents coincide: wide enough that the tile grid step containing them fits the window.
  const side = Math.max(whole.x1 - whole.x0, whole.y1 - whole.y0, manifest.generations[manifest.generations.length - 1].side / 4);
  const losses: number[] = [];

  function draw(start: Camera | null): MapView {
    const view = new MapView(
      {
        canvas: document.getElementById("canvas") as HTMLCanvasElement,
        labels: document.getElementById("labels")!,
        overlay: document.getElementById("overlay") as unknown as SVGSVGElement,
      },
      generations,
      start,
      body,
      whole,
      side,
      () => lost(view),
    );
    view.onCamera = viewChanged;
    view.onShape = (shape, operation) => void selectShown(shape, operation);
    return view;
  }

  function lost(old: MapView): void {
    losses.push(performance.now());
    if (losses.length >= MAX_LOSSES && losses[losses.length - 1] - losses[losses.length - MAX_LOSSES] < 60_000) {
      state.trouble.value = {
        title: "The graphics processor keeps dropping the map",
        text: "It runs out of memory, or its driver is restarted again and again. Close other pages that draw; the address keeps what you were looking at.",
        again: true,
      };
      return;
    }
    state.canvas.value += 1;
    // The new canvas exists once the signal has been rendered.
    void layoutSettled().then(() => {
      map = draw({ ...old.camera.place });
    });
  }

  let map = draw(address.view ? placeOf(address.view) : null);
  const box = (cluster: ClusterEntry) => clusterBox(cluster, state.details.value?.[state.labels.value!.clusters.indexOf(cluster)]);
  Object.assign(commands, {
    home: () => map.home(),
    whole: () => map.showWhole(),
    zoom: (steps: number) => map.zoomBy(steps),
    pan: (right: number, up: number, move = false) => map.panBy(right, up, move),
    reveal: (cluster: ClusterEntry) =>
      void layoutSettled().then(() => {
        const found = box(cluster);
        if (found) map.reveal(cluster, found);
      }),
    frame: (cluster: ClusterEntry) => {
      const found = box(cluster);
      if (found) map.frame(cluster, found);
    },
    pinRow: (rowId: number) => void map.pointing.pinRow(rowId, true),
    pinAt: (row: state.Row) => void map.pointing.pinAt(row),
    point: (row: state.Row | null) => map.point(row),
    pinCentre: () => void map.pointing.pinCentre(),
    document: async (rowId: number) => {
      const found = await locate(generations, rowId);
      return found && found.generation.document(found.position);
    },
    viewShape: () => boxShape(map.camera.free()),
    drawnIn: (shape: Shape | null, clusters: ReadonlySet<number> | null) => map.drawnIn(shape, clusters),
    drawnOf: (selection: Selection) => map.drawnOf(selection),
  });
  return () => map;
}

function placeOf([x, y, span]: [number, number, number]): Camera {
  return { x, y, zoom: Math.log2(Math.min(innerWidth, innerHeight) / span) };
}

function boxOf(boxes: [number, number, number, number][]): Box {
  const min = (i: number) => Math.min(...boxes.map((box) => box[i]));
  const max = (i: number) => Math.max(...boxes.map((box) => box[i]));
  return { x0: min(0), y0: min(1), x1: max(2), y1: max(3) };
}

function describeError(error: Error): state.Trouble {
  if (error instanceof MissingFile)
    return {
      title: "The map's files are not here",
      text: `${error.message} The page needs the whole workspace, not only its viewer folder. Serve the folder above this one:`,
      command: "latentscale view WORKSPACE",
      again: true,
    };
  if (error instanceof ViewerError) return { title: "The map cannot be shown", text: error.message, again: true };
  return { title: "The map cannot be shown", text: `Internal error of the page: ${error.message}.`, again: true };
}
