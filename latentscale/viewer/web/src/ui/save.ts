/** Files that the page gives to its user. */

import * as state from "../state";

/** The row ids of documents as CSV: other tools and jobs take them. */
export async function saveRowIds(rows: readonly state.Row[]): Promise<void> {
  try {
    const lists = await Promise.all(
      state.generations.value.map(async (generation) => {
        const own = new Set(rows.filter((row) => row.generation === generation).map(({ position }) => position));
        return own.size ? [...(await generation.rowIds(own)).values()] : [];
      }),
    );
    const ids = lists.flat().sort((a, b) => a - b);
    save(`row_id\n${ids.join("\n")}\n`, "documents.csv");
  } catch (error) {
    state.report("Row ids", error as Error);
  }
}

function save(text: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
