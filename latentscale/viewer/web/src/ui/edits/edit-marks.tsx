/** That a cluster is as its reader has edited it, and that its label is hidden, beside its name. */

import type { ClusterEntry } from "../../engine/format";

export function EditMarks({ cluster: { edited, hidden } }: { cluster: ClusterEntry }) {
  return (
    <>
      {edited && <span class="edit-mark">edited</span>}
      {hidden && <span class="edit-mark">hidden</span>}
    </>
  );
}
