"""A search by maxima of groups of columns finds what a search of all columns finds, on a device of any kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from latentscale.backends.torch.backend import TorchBackend

torch: Any = pytest.importorskip("torch", reason="the backend torch needs the package torch")
pytestmark = pytest.mark.slow

MODULE = "latentscale.backends.torch.neighbors"


@pytest.fixture(scope="module")
def rows() -> Any:
    """Groups in 24 dimensions, in order: what is alike follows each other, as in a sorted corpus."""
    random = np.random.default_rng(8)
    made = np.repeat(random.normal(size=(90, 24)), 33, axis=0)[:2_900]
    made = made + random.normal(scale=0.3, size=made.shape)
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def by_groups(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Tiles so small that there are many, and what is searched by all columns is counted."""
    from latentscale.backends.torch import neighbors as module

    counted = {"groups": 0, "all": 0}
    groups, everything = module._of_groups, module._of_all_columns

    def of_groups(asking: Any, *given: Any, **named: Any) -> Any:
        counted["groups"] += len(asking)
        return groups(asking, *given, **named)

    def of_all(matrix: Any, asking: Any, **named: Any) -> Any:
        counted["all"] += len(asking)
        return everything(matrix, asking, **named)

    for name, value in {
        "_SEARCHED_ON": (),
        "_GROUP": 16,
        "_ROWS": 300,
        "_COLUMNS": 500,
        "_BYTES_PER_CANDIDATE": 1,
        "_of_groups": of_groups,
        "_of_all_columns": of_all,
    }.items():
        monkeypatch.setattr(module, name, value)
    return counted


def graph(vectors: Any, k: int, device: str = "cpu") -> Any:
    return TorchBackend(device).neighbors(vectors, k=k, method="auto", recall_target=0.95, seed=7, threads=1)


@pytest.mark.parametrize("k", [1, 15, 40])
@pytest.mark.parametrize("kept", [1 << 30, 40_000])
def test_the_graph_is_that_of_all_columns(
    rows: Any, by_groups: dict[str, int], monkeypatch: pytest.MonkeyPatch, k: int, kept: int
) -> None:
    monkeypatch.setattr(f"{MODULE}._MAXIMA_BYTES", kept)
    found = graph(rows, k)
    # Of few rows there may be so many that are alike that all columns are searched.
    assert by_groups["all"] < 0.05 * len(rows)
    assert (by_groups["groups"] > len(rows)) == (kept < 1 << 30)
    monkeypatch.setattr(f"{MODULE}._SEARCHED_ON", ("cpu",))
    truth = graph(rows, k)
    np.testing.assert_array_equal(found.indices, truth.indices)
    np.testing.assert_array_equal(found.distances, truth.distances)


def test_little_memory_lets_few_rows_ask_at_once(
    rows: Any, by_groups: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = graph(rows[:1_200], 5)
    asked = by_groups["groups"]
    monkeypatch.setattr(f"{MODULE}._MAXIMA_BYTES", 100_000)
    monkeypatch.setattr(f"{MODULE}._BYTES_PER_CANDIDATE", 240)
    found = graph(rows[:1_200], 5)
    assert by_groups["groups"] == 2 * asked
    np.testing.assert_array_equal(found.indices, truth.indices)


@pytest.mark.parametrize("n", [499, 500, 501, 516, 999, 1_001, 1_500])
def test_sizes_about_those_of_blocks(
    rows: Any, by_groups: dict[str, int], monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    found = graph(rows[:n], 3)
    assert by_groups["groups"] == n
    monkeypatch.setattr(f"{MODULE}._SEARCHED_ON", ("cpu",))
    np.testing.assert_array_equal(found.indices, graph(rows[:n], 3).indices)


@pytest.mark.parametrize("k", [100, 2_899])
def test_more_neighbours_than_groups_can_tell(rows: Any, by_groups: dict[str, int], k: int) -> None:
    found = graph(rows, k)
    assert by_groups["groups"] == 0
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert (np.sort(found.indices, axis=1)[:, 1:] != np.sort(found.indices, axis=1)[:, :-1]).all()


def test_many_that_are_alike_are_searched_in_all_columns(
    rows: Any, by_groups: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = rows.copy()
    # A heap of one text, and one that no float16 tells apart.
    some[200:900] = some[200]
    nearly = some[1_000] + np.random.default_rng(0).normal(scale=1e-6, size=(700, 24)).astype(np.float32)
    some[1_000:1_700] = nearly / np.linalg.norm(nearly, axis=1, keepdims=True)
    found = graph(some, 15)
    assert by_groups["all"] >= 700
    assert (found.distances[200:900] == 0).all()
    assert set(found.indices[500].tolist()) <= set(range(200, 216))
    monkeypatch.setattr(f"{MODULE}._SEARCHED_ON", ("cpu",))
    truth = graph(some, 15)
    np.testing.assert_array_equal(found.distances, truth.distances)
    np.testing.assert_array_equal(found.indices[:900], truth.indices[:900])


def test_opposite_and_empty_rows(rows: Any, by_groups: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    some = np.concatenate((rows[:700], -rows[:700]))
    # All products of an empty row are 0: it is as far from all.
    some[40] = 0.0
    found = graph(some, 5)
    monkeypatch.setattr(f"{MODULE}._SEARCHED_ON", ("cpu",))
    np.testing.assert_array_equal(found.distances, graph(some, 5).distances)
    assert (found.distances[40] == 1).all()


def test_products_in_half_precision_lose_no_neighbours(rows: Any, by_groups: dict[str, int]) -> None:
    from tests.backends.torch.pretend_cuda import PretendCuda

    truth = graph(rows, 15)
    with PretendCuda():
        found = graph(rows, 15, "cuda:0")
    assert found.details["candidates"] == "float16"
    assert "searched_again" not in found.details
    # As near as the true ones: of several that are equally near another may be taken.
    assert np.isclose(found.distances, truth.distances, atol=1e-6).mean() > 0.9998
