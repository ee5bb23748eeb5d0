/** Selections as they are made: what the page is asked for, and what it does with what is selected already. */

import { commands } from "./commands";
import { isFiltering, passing } from "./filtering";
import type { LoadedTile } from "./engine/generation";
import { combined, selectionOf, type Operation, type Selection } from "./engine/selection";
import type { Shape } from "./engine/shape";
import * as state from "./state";

/** One after the other: each goes on from what the one before has selected. */
let turn: Promise<void> = Promise.resolve();

function take(operation: Operation, find: () => Promise<state.Selected> | state.Selected): Promise<void> {
  turn = turn.then(async () => {
    state.selecting.value = true;
    try {
      const { documents, part } = await find();
      const before = state.selected.value;
      state.selected.value = {
        documents: combined(before?.documents ?? null, operation, documents),
        part: part || (operation !== "replace" && before !== null && before.part),
      };
      state.setAside.value = false;
    } catch (error) {
      state.notice.value = (error as Error).message;
    } finally {
      state.selecting.value = false;
    }
  });
  return turn;
}

/** What is shown of the map in a shape, or of the whole map: exactly, or of what is drawn where that would take too much. */
export function selectShown(shape: Shape | null, operation: Operation = state.operation.value): Promise<void> {
  return take(operation, () => shownIn(shape, state.shownClusters.value));
}

/** Documents of clusters, by `layer.id` or `n` for noise, that pass the filters. */
export function selectClusters(refs: Iterable<string>, operation: Operation = state.operation.value): Promise<void> {
  const clusters = state.leavesOf(refs);
  return take(operation, () => shownIn(null, clusters, false));
}

/** What a search has found, as far as the filters let it pass. */
export function selectFound(operation: Operation = state.operation.value): Promise<void> {
  return take(operation, async () => {
    const answer = state.found.value;
    const documents = selectionOf(answer?.hits ?? []);
    if (!isFiltering() && !state.shownClusters.value) return { documents, part: answer?.more ?? false };
    const shown = await shownIn(null, state.shownClusters.value);
    return { documents: combined(documents, "intersect", shown.documents), part: shown.part || (answer?.more ?? false) };
  });
}

/** Documents of a list. */
export const selectRows = (rows: readonly state.Row[], part: boolean, operation: Operation = "replace"): Promise<void> =>
  take(operation, () => ({ documents: selectionOf(rows), part }));

/** Documents that are known already, as those of a tag. */
export const selectDocuments = (documents: Selection, operation: Operation = state.operation.value): Promise<void> =>
  take(operation, () => ({ documents, part: false }));

async function shownIn(shape: Shape | null, clusters: ReadonlySet<number> | null, asDrawn = true): Promise<state.Selected> {
  const { scan, TooMuch } = await import("./engine/scan");
  // Where noise has the colour of the cluster nearest to it, it is shown with it.
  const nearest = asDrawn && state.colour.value === "nearest_cluster" ? clusters : null;
  const passes = async (tile: LoadedTile): Promise<Uint8Array> => {
    const mask = await passing(tile);
    if (!nearest) return mask;
    const near = await tile.generation.column(tile.info, "nearest_cluster");
    return mask.map((on, i) => (on && nearest.has(near[i]) ? 1 : 0));
  };
  const question = { shape, clusters: nearest ? null : clusters, passes: isFiltering() || nearest ? passes : null };
  // While a search is on, only what it found is shown.
  const found = asDrawn && shape && state.found.value && !state.selected.value ? selectionOf(state.found.value.hits) : null;
  try {
    const documents = await scan(state.generations.value, question);
    return { documents: found ? combined(found, "intersect", documents) : documents, part: false };
  } catch (error) {
    if (!(error instanceof TooMuch)) throw error;
    const drawn = commands.drawnIn(shape, clusters);
    return { documents: found ? combined(found, "intersect", drawn) : drawn, part: true };
  }
}
