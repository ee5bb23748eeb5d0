"""Cost of each shard in columnar form, which scales to millions of shards."""

from __future__ import annotations

from array import array

import numpy as np
import pyarrow as pa

from latentscale.storage.columns import StringColumn


class ShardMetrics:
    """Stage, key, rows, bytes and seconds of each shard of a run."""

    def __init__(self) -> None:
        self._stages: list[str] = []
        self._stage = array("h")
        self._key = StringColumn()
        self._rows, self._bytes = array("q"), array("q")
        self._seconds = array("d")

    def add(self, stage: str, key: str, *, rows: int, seconds: float, size: int = 0) -> None:
        """Add the cost of a shard; ``size`` in bytes, 0 if unknown."""
        if stage not in self._stages:
            self._stages.append(stage)
        self._stage.append(self._stages.index(stage))
        self._key.append(key)
        self._rows.append(rows)
        self._bytes.append(size)
        self._seconds.append(seconds)

    def table(self) -> pa.Table | None:
        """Return all rows, or None if there are none."""
        if not len(self._rows):
            return None
        # Without a copy: a list of a million integers would take a hundred megabytes.
        codes = pa.array(np.frombuffer(self._stage, dtype=np.int16))
        sizes = np.frombuffer(self._bytes, dtype=np.int64)
        return pa.table(
            {
                "stage": pa.DictionaryArray.from_arrays(codes, pa.array(self._stages)).cast(pa.string()),
                "key": self._key.finish(),
                "rows": pa.array(np.frombuffer(self._rows, dtype=np.int64)),
                "bytes": pa.array(sizes, mask=sizes == 0),
                "seconds": pa.array(np.frombuffer(self._seconds, dtype=np.float64)),
            }
        )
