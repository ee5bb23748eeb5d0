/** The files beside the points, each read on its own: the map is drawn without any of them. */

import { decoded, MissingFile, type Store } from "./engine/store";
import { hasEdits } from "./engine/edit-key";
import { ViewerError, type ClusterDetail, type LabelsFile, type Manifest } from "./engine/format";
import type { Generation } from "./engine/generation";
import { mergeIndexes } from "./engine/merge";
import * as state from "./state";

/** What each is called where it cannot be read. */
const NAMES = { labels: "Clusters", details: "Outlines and keyphrases of clusters", index: "Columns" } as const;

export class SideFiles {
  constructor(
    private readonly store: Store,
    private readonly manifest: Manifest,
    private readonly generations: readonly Generation[],
  ) {}

  /** Read what is not here yet; those that fail are reported. Fails where nothing of the map is on the server, not even its points. */
  async read(): Promise<void> {
    const found = await Promise.all([
      this.one("labels", () => this.labels()),
      this.one("details", () => this.details()),
      this.one("index", () => this.index()),
    ]);
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

  /** What the reader has edited of these clusters, where the browser has kept anything. */
  private async edits(): Promise<void> {
    if (!hasEdits(this.manifest)) return;
    try {
      (await import("./editing")).readOnce();
    } catch (error) {
      state.report("Edits", error as Error);
    }
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
    state.index.value = await decoded(this.generations.map((one) => one.name("index.json")).join(", "), () => mergeIndexes(all));
  }
}
