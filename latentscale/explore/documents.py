"""Read the texts of selected documents, only from the shards that contain them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import DamagedObjectError
from latentscale.storage.objects import Store
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.vectors import stream_documents


def read_texts(store: Store, snapshot: Snapshot, row_ids: NDArray[np.int64], column: str) -> pa.ChunkedArray:
    """Read the texts of the documents ``row_ids``, in this order.

    Raises
    ------
    DamagedObjectError
        If one of the documents is not in the snapshot.
    """
    order = np.argsort(snapshot.offsets(row_ids), kind="stable")
    pieces = [batch.column(0) for _, batch in stream_documents(store, snapshot, row_ids[order], [column])]
    texts = pa.chunked_array(pieces, pa.string() if not pieces else None)
    if len(texts) != len(row_ids):
        raise DamagedObjectError(
            f"{snapshot.id} holds {len(texts):,} of {len(row_ids):,} documents of the map",
            hint="latentscale verify finds what is missing.",
        )
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return texts.take(pa.array(back))
