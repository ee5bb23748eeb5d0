/**
 * The files other than points (labels, cluster details, index), each read independently: the map can be drawn without
 * them.
 */

import { effect } from "@preact/signals";
import { decodeFile, MissingFile, type Store } from "./engine/store";
import { hasEdits } from "./engine/edit-storage";
import { ViewerError, type ClusterDetail, type HuesFile, type LabelsFile, type Manifest } from "./engine/format";
import type { Generation } from "./engine/generation";
import { mergeIndexes } from "./engine/merge";
import * as state from "./state";

/** Name of each in error messages. */
const NAMES = { labels: "Clusters", details: "Outlines and keyphrases of clusters", index: "Columns" } as const;

export class SideFiles {
  constructor(
    private readonly store: Store,
    private readonly manifest: Manifest,
    private readonly generations: readonly Generation[],
  ) {}

  /**
   * Read the missing files and report failures. Throws if nothing of the map is on the server, not even its points.
   */
  async read(): Promise<void> {
    const last = this.manifest.generations[this.manifest.generations.length - 1];
    if (last.hues && !state.labels.value) await this.hues();
    const requests = [this.one("labels", () => this.labels()), this.one("index", () => this.index())];
    // For many clusters these are megabytes, and nothing waits for them.
    if (last.hues) void whenTrue(() => state.labelsRead.value && !state.drawn.value.loading).then(() => this.one("details", () => this.details()));
    else requests.push(this.one("details", () => this.details()));
    const found = await Promise.all(requests);
    if (found.every((error) => error instanceof MissingFile)) await this.generations[0].bytes("tiles/0-0-0.parquet");
  }

  private async one(name: keyof typeof NAMES, read: () => Promise<void>): Promise<Error | null> {
    if (state[name].value) return null;
    try {
      await read();
      return null;
    } catch (error) {
      state.report(NAMES[name], error as Error);
      return error as Error;
    } finally {
      if (name === "labels") state.labelsRead.value = true;
    }
  }

  /** Load the reader's edits, if the browser stores any. */
  private async edits(): Promise<void> {
    if (!hasEdits(this.manifest)) return;
    try {
      (await import("./editing")).loadEdits();
    } catch (error) {
      state.report("Edits", error as Error);
    }
  }

  /** Colours of many clusters, for the first picture; everything else is read after it. */
  private async hues(): Promise<void> {
    try {
      const { id, hue, shade } = await this.store.json<HuesFile>(`${this.manifest.labels}hues.json`);
      state.hues.value = id.map((one, i) => ({ id: one, layer: 0, hue: hue[i], shade: shade[i] }));
    } catch {
      // Not fatal: labels.json has the colours, too.
      return;
    }
    await whenTrue(() => state.rootsRead.value);
  }

  private async labels(): Promise<void> {
    const name = `${this.manifest.labels}labels.json`;
    const file = await this.store.json<LabelsFile>(name);
    if (!Array.isArray(file?.clusters)) throw new ViewerError(`${name} is damaged: it holds no list of clusters.`);
    await this.edits();
    state.published.labels.value = file;
  }

  private async details(): Promise<void> {
    const name = `${this.manifest.labels}clusters.json`;
    const file = await this.store.json<ClusterDetail[]>(name);
    if (!Array.isArray(file)) throw new ViewerError(`${name} is damaged: it is no list.`);
    state.published.details.value = file;
  }

  private async index(): Promise<void> {
    const parts = this.generations.map(async (generation) => {
      const [index, { counts }] = await Promise.all([generation.index(), generation.removed()]);
      return { entry: generation.entry, index, removed: counts };
    });
    const all = await Promise.all(parts);
    state.index.value = await decodeFile(this.generations.map((one) => one.name("index.json")).join(", "), () => mergeIndexes(all));
  }
}

/** Resolve when a condition on signals holds. */
function whenTrue(holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    let stop = (): void => undefined;
    let done = false;
    stop = effect(() => {
      if (done || !holds()) return;
      done = true;
      queueMicrotask(() => stop());
      resolve();
    });
  });
}
