/** File downloads. */

import type { Selection } from "../engine/selection";
import * as state from "../state";

/** Save row ids as CSV, which jobs and other tools read. */
export async function saveRowIds(documents: Selection): Promise<void> {
  try {
    save(`row_id\n${(await rowIdsOf(documents)).join("\n")}\n`, "documents.csv");
  } catch (error) {
    state.report("Row ids", error as Error);
  }
}

/** Row ids of a selection, ascending. */
export async function rowIdsOf(documents: Selection): Promise<number[]> {
  const lists = await Promise.all(
    state.generations.value.map((generation) => {
      const own = documents.get(generation.number);
      return own ? generation.rowIds(own) : [];
    }),
  );
  return lists.flat().sort((a, b) => a - b);
}

/** Offer content as a file download. */
export function save(content: BlobPart, name: string, type = "text/csv"): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
