/** Start: the manifest, then the root tile and the labels at once, then everything else. */

import { effect } from "@preact/signals";
import { render } from "preact";
import { commands } from "./commands";
import { settled } from "./obstacles";
import { readAddress } from "./engine/address";
import { EMBEDDED_BASE, embeddedFiles } from "./engine/embedded";
import { checkManifest, ViewerError, type ClusterEntry, type Manifest } from "./engine/format";
import { Generation, locate } from "./engine/generation";
import type { Box } from "./engine/lod";
import { alive } from "./engine/merge";
import type { Selection } from "./engine/selection";
import { boxShape, type Shape } from "./engine/shape";
import { MissingFile, Store } from "./engine/store";
import { keepFilters } from "./filter-effects";
import { findDocuments } from "./document-search";
import type { Camera } from "./map/camera";
import { MapView } from "./map/map-view";
import { clusterBox } from "./map/reveal";
import { SideFiles } from "./side-files";
import { selectShown } from "./selecting";
import * as state from "./state";
import { App } from "./ui/app";
import { follow, keepAddress, viewChanged, whileFollowing } from "./address-sync";

/** A canvas that is lost as often within a minute is given up: the machine cannot draw this map. */
const MOST_LOSSES = 3;

const address = readAddress(location.hash);
follow(address);
effect(() => {
  document.documentElement.dataset.theme = state.theme.value;
});
const root = document.getElementById("app")!;
root.replaceChildren();
render(<App />, root);
void start();

async function start(): Promise<void> {
  const inside = embeddedFiles();
  state.inOneFile.value = inside !== null;
  const store = inside ? new Store(EMBEDDED_BASE, inside) : new Store(location.href.replace(/[?#].*$/, ""));
  try {
    // The one file that changes: a copy that the browser kept may name generations of yesterday.
    const manifest = alive(checkManifest(await store.json<Manifest>("manifest.json", { fresh: true })));
    document.title = manifest.title;
    const generations = manifest.generations.map((entry, i) => new Generation(i, entry, store));
    const sides = new SideFiles(store, manifest, generations);
    state.generations.value = generations;
    state.manifest.value = manifest;
    if (!document.createElement("canvas").getContext("webgl2"))
      throw new ViewerError("This browser offers no WebGL 2, by which the map is drawn.");
    const map = show(manifest, generations);
    commands.retry = () => {
      store.forget();
      state.problems.value = new Map();
      state.tries.value += 1;
      map().retry();
      sides.read().catch((error: Error) => (state.trouble.value = explain(error)));
    };
    findDocuments(generations);
    const linked = new URLSearchParams(location.search).get("linked");
    if (linked) void import("./linked-pages").then(({ link }) => link(linked, generations)).catch((error: Error) => state.report("The other map", error));
    // Only a server on this machine is told anything: nothing of it is on a static host.
    const token = new URLSearchParams(location.search).get("tell");
    if (token && /^(127\.0\.0\.1|localhost|\[::1\])$/.test(location.hostname))
      void import("./notebook").then(({ tell }) => tell(token)).catch((error: Error) => state.report("The notebook", error));
    keepFilters();
    keepAddress(map, () => map().camera.hold(bodyOf(manifest)));
    await whileFollowing(map, async () => {
      await sides.read();
      if (address.pinned !== undefined) await map().pointing.pinRow(address.pinned, !address.view);
    });
  } catch (error) {
    state.trouble.value = explain(error as Error);
  }
}

const bodyOf = ({ generations }: Manifest): Box => boxOf([generations[generations.length - 1].view]);

/** Draw the map, and again on a new canvas each time that the graphics processor drops one; gives what is drawn now. */
function show(manifest: Manifest, generations: Generation[]): () => MapView {
  const body = bodyOf(manifest);
  const whole = boxOf(manifest.generations.map((entry) => entry.extent));
  // Of documents that lie all at one place: so wide that the step of the tile's grid in which they lie is in the window.
  const side = Math.max(whole.x1 - whole.x0, whole.y1 - whole.y0, manifest.generations[manifest.generations.length - 1].side / 4);
  const losses: number[] = [];

  function draw(start: Camera | null): MapView {
    const made = new MapView(
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
      () => lost(made),
    );
    made.onCamera = viewChanged;
    made.onShape = (shape, operation) => void selectShown(shape, operation);
    return made;
  }

  function lost(old: MapView): void {
    losses.push(performance.now());
    if (losses.length >= MOST_LOSSES && losses[losses.length - 1] - losses[losses.length - MOST_LOSSES] < 60_000) {
      state.trouble.value = {
        title: "The graphics processor keeps dropping the map",
        text: "It runs out of memory, or its driver is restarted again and again. Close other pages that draw; the address keeps what you were looking at.",
        again: true,
      };
      return;
    }
    state.canvas.value += 1;
    // The page has the new canvas once it has followed the signal.
    void settled().then(() => {
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
      void settled().then(() => {
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
  const least = (i: number) => Math.min(...boxes.map((box) => box[i]));
  const most = (i: number) => Math.max(...boxes.map((box) => box[i]));
  return { x0: least(0), y0: least(1), x1: most(2), y1: most(3) };
}

function explain(error: Error): state.Trouble {
  if (error instanceof MissingFile)
    return {
      title: "The map's files are not here",
      text: `${error.message} The page needs the whole workspace, not only its viewer folder. Serve the folder above this one:`,
      command: "latentscale view WORKSPACE",
      again: true,
    };
  if (error instanceof ViewerError) return { title: "The map cannot be shown", text: error.message, again: true };
  return { title: "The map cannot be shown", text: `The page met an error of its own: ${error.message}.`, again: true };
}
