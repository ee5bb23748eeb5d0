/** How selections are made: find the documents, then combine them with the current selection. */

import { commands } from "./commands";
import { isFiltering, passingMask } from "./filtering";
import type { LoadedTile } from "./engine/generation";
import { combine, selectionOf, type Operation, type Selection } from "./engine/selection";
import type { Shape } from "./engine/shape";
import * as state from "./state";

/** Operations are queued: each builds on the result of the previous one. */
let queue: Promise<void> = Promise.resolve();

function enqueue(operation: Operation, find: () => Promise<state.Selected> | state.Selected): Promise<void> {
  queue = queue.then(async () => {
    state.selecting.value = true;
    try {
      const { documents, part } = await find();
      const before = state.selected.value;
      state.selected.value = {
        documents: combine(before?.documents ?? null, operation, documents),
        part: part || (operation !== "replace" && before !== null && before.part),
      };
      state.selectionSuspended.value = false;
    } catch (error) {
      state.notice.value = (error as Error).message;
    } finally {
      state.selecting.value = false;
    }
  });
  return queue;
}

/**
 * Select the visible documents in a shape, or on the whole map: exactly, or among the drawn ones where that would read
 * too much.
 */
export function selectShown(shape: Shape | null, operation: Operation = state.operation.value): Promise<void> {
  return enqueue(operation, () => documentsShown(shape, state.shownClusters.value));
}

/** Select the documents of clusters (`layer.id`, or `n` for noise) that pass the filters. */
export function selectClusters(refs: Iterable<string>, operation: Operation = state.operation.value): Promise<void> {
  const clusters = state.leavesOf(refs);
  return enqueue(operation, () => documentsShown(null, clusters, false));
}

/** Select the search results that pass the filters. */
export function selectHits(operation: Operation = state.operation.value): Promise<void> {
  return enqueue(operation, async () => {
    const answer = state.found.value;
    const documents = selectionOf(answer?.hits ?? []);
    if (!isFiltering() && !state.shownClusters.value) return { documents, part: answer?.more ?? false };
    const shown = await documentsShown(null, state.shownClusters.value);
    return { documents: combine(documents, "intersect", shown.documents), part: shown.part || (answer?.more ?? false) };
  });
}

/** Select the documents of a list. */
export const selectRows = (rows: readonly state.Row[], part: boolean, operation: Operation = "replace"): Promise<void> =>
  enqueue(operation, () => ({ documents: selectionOf(rows), part }));

/** Select documents that are already located, such as those of a tag. */
export const selectDocuments = (documents: Selection, operation: Operation = state.operation.value): Promise<void> =>
  enqueue(operation, () => ({ documents, part: false }));

async function documentsShown(shape: Shape | null, clusters: ReadonlySet<number> | null, asDrawn = true): Promise<state.Selected> {
  const { scan, ScanLimitError } = await import("./engine/scan");
  // Noise that is coloured by its nearest cluster is shown with that cluster.
  const nearest = asDrawn && state.colour.value === "nearest_cluster" ? clusters : null;
  const passes = async (tile: LoadedTile): Promise<Uint8Array> => {
    const mask = await passingMask(tile);
    if (!nearest) return mask;
    const nearestIds = await tile.generation.column(tile.info, "nearest_cluster");
    return mask.map((on, i) => (on && nearest.has(nearestIds[i]) ? 1 : 0));
  };
  const question = { shape, clusters: nearest ? null : clusters, passes: isFiltering() || nearest ? passes : null };
  // During a search only the results are shown.
  const found = asDrawn && shape && state.found.value && !state.selected.value ? selectionOf(state.found.value.hits) : null;
  try {
    const documents = await scan(state.generations.value, question);
    return { documents: found ? combine(found, "intersect", documents) : documents, part: false };
  } catch (error) {
    if (!(error instanceof ScanLimitError)) throw error;
    const drawn = commands.drawnIn(shape, clusters);
    return { documents: found ? combine(found, "intersect", drawn) : drawn, part: true };
  }
}
