/** Markers beside a cluster's name: edited by the reader, label hidden. */

import type { ClusterEntry } from "../../engine/format";

export function EditMarks({ cluster: { edited, hidden } }: { cluster: ClusterEntry }) {
  return (
    <>
      {edited && <span class="edit-mark">edited</span>}
      {hidden && <span class="edit-mark">hidden</span>}
    </>
  );
}
