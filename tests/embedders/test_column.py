"""Vectors that a corpus already has: every list type is read, every unusable row is named."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.embedders.column import column_vectors, column_width
from latentscale.errors import CorpusError

ROWS = [[3.0, 4.0], None, [0.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float16()),
        pa.list_(pa.float32()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float32(), 2),
        pa.list_(pa.float64(), 2),
        pa.list_(pa.int16()),
    ],
    ids=str,
)
def test_every_list_of_numbers_becomes_unit_vectors(kind):
    rows = [row if row is None else [kind.value_type.to_pandas_dtype()(x) for x in row] for row in ROWS]
    column = pa.chunked_array([pa.array(rows, type=kind), pa.array(rows[:1], type=kind)])
    result = column_vectors(column, name="v")
    np.testing.assert_allclose(result.vectors, [[0.6, 0.8], [0, 0], [0, 0], [1, 0], [0.6, 0.8]], atol=1e-6)
    assert result.vectors.dtype == np.float32
    assert result.embeddable.tolist() == [True, False, False, True, True]


def test_a_slice_and_a_parquet_round_trip_keep_the_rows_apart(tmp_path):
    column = pa.array([[float(n), 1.0] if n % 3 else None for n in range(20)], type=pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"v": column}), tmp_path / "v.parquet")
    again = pq.read_table(tmp_path / "v.parquet")["v"]
    for source in (column, again):
        result = column_vectors(source.slice(7, 9), name="v", normalise=False)
        expected = [[n, 1] if n % 3 else [0, 0] for n in range(7, 16)]
        np.testing.assert_array_equal(result.vectors, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e300, None])
def test_a_number_that_cannot_be_used_is_named_with_file_and_row(bad):
    column = pa.array([[1.0, 2.0], None, [1.0, bad]], type=pa.list_(pa.float64()))
    with pytest.raises(CorpusError) as caught:
        column_vectors(column, name="vec", rows=np.arange(100, 200), file="part-1.parquet")
    assert caught.value.where == "part-1.parquet, row 102, column vec"


def test_another_width_is_refused_with_both_widths_and_the_row():
    with pytest.raises(CorpusError, match="a vector of 3 numbers among vectors of 2") as caught:
        column_vectors(pa.array([None, [1.0, 2.0], [1.0, 2.0, 3.0]]), name="vec")
    assert caught.value.where == "row 2, column vec"


def test_the_width_of_the_corpus_holds_for_each_shard():
    with pytest.raises(CorpusError, match="a vector of 2 numbers among vectors of 4"):
        column_vectors(pa.array([[1.0, 2.0]], type=pa.list_(pa.float32(), 2)), name="vec", dim=4)


@pytest.mark.parametrize("kind", [pa.string(), pa.list_(pa.string()), pa.float32()], ids=str)
def test_a_column_of_another_type_is_refused_before_any_row_is_read(kind):
    with pytest.raises(CorpusError, match="vectors are lists of numbers"):
        column_width(kind, name="vec")


@pytest.mark.parametrize("rows", [[], [None, None], [[], []]])
def test_a_column_without_any_number_is_no_crash(rows):
    column = pa.array(rows, type=pa.list_(pa.float32()))
    if rows == [[], []]:
        with pytest.raises(CorpusError, match="the vectors are empty"):
            column_vectors(column, name="vec")
    else:
        result = column_vectors(column, name="vec", dim=3)
        assert result.vectors.shape == (len(rows), 3)
        assert not result.embeddable.any()


def test_a_file_of_which_no_document_has_a_vector_has_none_to_embed() -> None:
    found = column_vectors(pa.nulls(3), name="v")
    assert found.vectors.shape == (3, 0)
    assert not found.embeddable.any()
