"""The spanning tree by torch is the shortest whatever the points are like, and copies cost nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.metrics import pairwise_distances

torch: Any = pytest.importorskip("torch", reason="the backend torch needs the package torch")
pytestmark = pytest.mark.slow

BLOCKS = "latentscale.backends.torch.blocks"
SPANNING = "latentscale.backends.torch.spanning"


def kinds() -> dict[str, Any]:
    random = np.random.default_rng(5)
    centers = np.repeat(random.normal(size=(20, 5)) * 3, 40, axis=0)
    return {
        "even": random.random((900, 5)),
        # Equal distances without end.
        "a lattice": np.stack(np.meshgrid(*[np.arange(10.0)] * 3), -1).reshape(-1, 3),
        # All known neighbours of a point are in its own heap.
        "heaps of near copies": centers + random.normal(scale=1e-3, size=centers.shape),
        "heaps of copies": np.repeat(random.normal(size=(50, 5)), 24, axis=0)[random.permutation(1_200)],
        "copies on a lattice": random.integers(0, 4, size=(1_200, 4)).astype(float),
        "one line": np.cumsum(random.exponential(size=(1_000, 1)) ** 3, axis=0),
        "a point among far ones": np.concatenate(
            (random.normal(scale=1e-4, size=(900, 5)), random.normal(scale=1e3, size=(300, 5)))
        ),
        "far from the origin": (random.normal(size=(1_000, 5)) + 1_000).astype(np.float32),
        "many dimensions": random.normal(size=(400, 60)),
    }


def assert_shortest(points: Any, least: int, *, rough: float = 1e-9) -> Any:
    from latentscale.backends.torch.spanning import spanning_tree

    tree = spanning_tree(points, min_samples=least, device=torch.device("cpu"))
    points = np.asarray(points, np.float64)
    apart = np.sqrt(sum((column[:, None] - column[None]) ** 2 for column in points.T))
    core = np.sort(apart, axis=1)[:, least]
    reach = np.maximum(np.maximum(apart, core[:, None]), core[None])
    ends, most = tree[:, :2].astype(int), max(1.0, float(reach.max()))
    assert tree.shape == (len(points) - 1, 3)
    np.testing.assert_allclose(tree[:, 2], reach[ends[:, 0], ends[:, 1]], atol=rough * most)
    # Scipy takes a weight near 0 for no edge.
    truth = np.sort(minimum_spanning_tree(reach + most).data) - most
    np.testing.assert_allclose(tree[:, 2], truth, atol=rough * most)
    return tree


@pytest.mark.parametrize("least", [1, 10])
@pytest.mark.parametrize("kind", list(kinds()))
def test_the_tree_is_the_shortest(kind: str, least: int) -> None:
    assert_shortest(kinds()[kind], least)


@pytest.mark.parametrize("kind", ["even", "heaps of near copies", "copies on a lattice"])
def test_small_blocks_and_little_memory_give_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = kinds()[kind]
    whole = assert_shortest(points, 10)
    for name, value in {"_BLOCK": 8, "_ENTRIES": 1 << 12, "_PAIRS": 1 << 8, "_RANGE": 8, "_KEPT": 1 << 12}.items():
        monkeypatch.setattr(f"{BLOCKS}.{name}", value)
    for name, value in {"_EDGES_AT_ONCE": 1 << 8, "_BLOCKS_AT_ONCE": 16}.items():
        monkeypatch.setattr(f"{SPANNING}.{name}", value)
    np.testing.assert_allclose(assert_shortest(points, 10)[:, 2], whole[:, 2], atol=1e-12)


def test_in_single_precision_it_is_as_short_as_that_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{SPANNING}.widest_float", lambda device: torch.float32)
    for kind in ("even", "heaps of near copies", "copies on a lattice", "a point among far ones"):
        assert_shortest(kinds()[kind], 10, rough=1e-6)


def test_a_large_heap_of_copies_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from latentscale.backends.torch import blocks as module
    from latentscale.backends.torch.spanning import spanning_tree

    random = np.random.default_rng(2)
    points = random.normal(size=(30_000, 5))
    points[random.permutation(30_000)[:28_000]] = points[0]
    entries = []
    right = module.Products.__init__

    def counted(self: Any, blocks: Any, rows: Any, columns: Any) -> None:
        right(self, blocks, rows, columns)
        entries.append(columns.numel() * blocks.size**2)

    monkeypatch.setattr(module.Products, "__init__", counted)
    tree = spanning_tree(points, min_samples=10, device=torch.device("cpu"))
    assert tree.shape == (29_999, 3)
    assert (tree[:, 2] == 0).sum() >= 27_999
    # All pairs of all points are 4.5e8.
    assert sum(entries) < 5e7


def test_pairs_of_points_that_are_compared_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    from latentscale.backends.torch import blocks as module
    from latentscale.backends.torch.spanning import spanning_tree

    random = np.random.default_rng(6)
    # As on a layout: threads of points in five dimensions.
    ways = np.cumsum(random.normal(scale=0.05, size=(60, 400, 5)), axis=1) + random.normal(scale=5, size=(60, 1, 5))
    points = ways.reshape(-1, 5)
    entries = []
    right = module.Products.__init__

    def counted(self: Any, blocks: Any, rows: Any, columns: Any) -> None:
        right(self, blocks, rows, columns)
        entries.append(columns.numel() * blocks.size**2)

    monkeypatch.setattr(module.Products, "__init__", counted)
    spanning_tree(points, min_samples=10, device=torch.device("cpu"))
    assert sum(entries) < len(points) ** 2 / 4


def test_the_nearest_points_are_the_nearest() -> None:
    from latentscale.backends.torch.blocks import in_blocks, nearest_points

    points = kinds()["even"]
    blocks = in_blocks(torch.from_numpy(points))
    distance, near = nearest_points(blocks, 12)
    real, position = blocks.real.numpy(), blocks.position.numpy()
    apart = pairwise_distances(points)
    np.fill_diagonal(apart, np.inf)
    truth = np.argsort(apart, axis=1, kind="stable")[:, :12]
    np.testing.assert_array_equal(position[near.numpy()[real]], truth[position[real]])
    np.testing.assert_allclose(distance.numpy()[real], np.sort(apart, axis=1)[:, :12][position[real]], atol=1e-12)


def test_the_tree_is_as_long_as_that_of_the_processors() -> None:
    from latentscale.backends.cpu.spanning import spanning_tree as by_processors
    from latentscale.backends.torch.spanning import spanning_tree

    random = np.random.default_rng(9)
    ways = np.cumsum(random.normal(scale=0.05, size=(20, 400, 5)), axis=1) + random.normal(scale=3, size=(20, 1, 5))
    points = ways.reshape(-1, 5).astype(np.float32)
    points[1_000:1_100] = points[1_000]
    found = spanning_tree(points, min_samples=10, device=torch.device("cpu"))
    truth = by_processors(points, min_samples=10, threads=2)
    np.testing.assert_allclose(found[:, 2], truth[:, 2], atol=1e-9)
