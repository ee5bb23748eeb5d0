"""Arrow types are kept as text, most of them under the name that a person knows."""

from __future__ import annotations

import pyarrow as pa
import pytest

from latentscale.storage.arrow_types import type_name, type_of

NAMED = [
    pa.int8(),
    pa.float16(),
    pa.large_string(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("ns"),
    pa.timestamp("ms", "+02:00"),
    pa.timestamp("us", "America/Port-au-Prince"),
    pa.decimal128(38, -3),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.timestamp("us", "UTC"), ordered=True),
]
OTHERS = [
    pa.list_(pa.float32(), 3),
    pa.struct([("a, b", pa.int8()), ("c", pa.list_(pa.string()))]),
    pa.map_(pa.string(), pa.decimal256(50, 2)),
    pa.dictionary(pa.int16(), pa.list_(pa.int8())),
]


@pytest.mark.parametrize("kind", [*NAMED, *OTHERS], ids=str)
def test_a_type_comes_back_from_its_text(kind: pa.DataType) -> None:
    name = type_name(kind)
    assert type_of(name) == kind
    assert name.startswith("ipc:") == (kind in OTHERS)


def test_text_that_names_no_type_is_refused() -> None:
    with pytest.raises(ValueError, match="names no Arrow type"):
        type_of("dictionary<values=wood, indices=int32, ordered=0>")
