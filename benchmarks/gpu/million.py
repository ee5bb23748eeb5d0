"""A million rows from vectors to graph, map and spanning tree on one GPU: one command, under two minutes.

    python benchmarks/gpu/million.py VECTORS.npy OUT [--rows 1000000] [--dim 384] [--device cuda:0] [--seconds 110]

``VECTORS.npy`` contains unit rows (float16 or float32) of real texts. The million are **jittered copies** of them, in
``--dim`` dimensions: fewer are embedded in that many by a random rotation, which preserves all angles. Needs torch,
NumPy, SciPy and scikit-learn, but neither numba nor hdbscan; if hdbscan is installed, the clusters of the tree are also
timed.

Writes ``OUT/million.json`` after each part:

- seconds and peak memory of each stage, as the torch backend runs it, and their sum;
- recall of the neighbours, trustworthiness of the map, length of the tree, and whether it is bit-identical again;
- on the real rows, the agreement of graph and tree with a search of all columns and an exact tree (Prim's algorithm);
- for decisions: variants of the search for 131,072 query rows, and the times of single operations.

Parts that would start after ``--seconds`` are skipped, which is recorded.

``OUT/tree.npz`` contains the tree of the million (``ends`` int32, ``lengths`` float32), so that its clusters can be
computed elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[2] / ".gpu/packages")]

K = 15
MIN_SAMPLES = 10
LAYOUT: dict[str, Any] = {"spread": 1.0, "n_epochs": 200, "negative_sample_rate": 5, "learning_rate": 1.0, "seed": 42}
ASKING = 131_072


def exact_tree(points: Any, min_samples: int) -> Any:
    """Edge lengths, ascending, of a minimum spanning tree of mutual reachability, by Prim's algorithm."""
    from scipy.spatial import KDTree

    core = KDTree(points).query(points, k=min_samples + 1)[0][:, -1]
    n = len(points)
    shortest, outside = np.full(n, np.inf), np.ones(n, bool)
    lengths = np.empty(n - 1)
    current = 0
    for step in range(n - 1):
        outside[current] = False
        distances = np.sqrt(((points - points[current]) ** 2).sum(axis=1))
        np.minimum(shortest, np.maximum(np.maximum(distances, core), core[current]), out=shortest)
        current = int(np.where(outside, shortest, np.inf).argmin())
        lengths[step] = shortest[current]
    return np.sort(lengths)


def _module(name: str) -> Any:
    return importlib.import_module(f"latentscale.backends.torch.{name}")


class Million:
    """The parts of the measurement, and their results."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch

        from latentscale.backends.torch.device import open_device

        self.torch = torch
        self.options = options
        self.began = time.perf_counter()
        self.device = open_device(options.device)
        self.found: dict[str, Any] = {
            "torch": torch.__version__,
            "rows": options.rows,
            "dim": options.dim,
            "rows_are": f"jittered copies of the real rows in {Path(options.vectors).name}",
        }
        if self.device.type == "cuda":
            self.found["gpu"] = torch.cuda.get_device_name(self.device)
            self.found["memory_gib"] = round(torch.cuda.mem_get_info(self.device)[1] / 2**30, 1)
        self.stages: dict[str, float] = {}

    # ------------------------------------------------------------------------------------------------------ its tools

    def wait(self) -> None:
        """Wait until the device has finished all work."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)

    def timed(self, work: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
        """Measure seconds and peak memory of some work, and return its result."""
        self.wait()
        if self.device.type == "cuda":
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        answer = work()
        self.wait()
        facts: dict[str, Any] = {"seconds": round(time.perf_counter() - began, 3)}
        if self.device.type == "cuda":
            facts["peak_gib"] = round(self.torch.cuda.max_memory_allocated(self.device) / 2**30, 2)
        return facts, answer

    def stage(self, name: str, work: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
        """As :meth:`timed`, included in the sum of the stages."""
        facts, answer = self.timed(work)
        self.stages[name] = facts["seconds"]
        return facts, answer

    @contextlib.contextmanager
    def parts(self, module: Any, *names: str) -> Generator[dict[str, float]]:
        """Measure the seconds within functions of a module, synchronising after each call."""
        seconds: dict[str, float] = {}

        def synchronised(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                self.wait()
                began = time.perf_counter()
                answer = function(*args, **kwargs)
                self.wait()
                seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - began, 4)
                return answer

            return call

        functions = {name: getattr(module, name) for name in names}
        for name, function in functions.items():
            setattr(module, name, synchronised(name, function))
        try:
            yield seconds
        finally:
            for name, function in functions.items():
                setattr(module, name, function)

    @contextlib.contextmanager
    def constants(self, module: Any, **values: Any) -> Generator[None]:
        """Replace constants of a module temporarily."""
        originals = {name: getattr(module, name) for name in values}
        try:
            for name, value in values.items():
                setattr(module, name, value)
            yield
        finally:
            for name, value in originals.items():
                setattr(module, name, value)

    def run(self) -> None:
        """Run all parts one by one; a failed part is recorded, and the others continue."""
        from scipy.sparse import csgraph

        _ = csgraph  # Imported before anything is timed.
        parts = (
            self.data,
            self.real_neighbors,
            self.real_tree,
            self.real_map,
            self.neighbors,
            self.layouts,
            self.tree,
            self.clusters,
            self.tree_on_processors,
            self.map_figures,
            self.small_trees,
            self.tree_parts,
            self.search_parts,
            self.search_variants,
            self.operations,
            self.tree_of_components,
            self.real_tree_agrees,
        )
        self.options.out.mkdir(parents=True, exist_ok=True)
        for part in parts:
            began = time.perf_counter()
            if began - self.began > self.options.seconds:
                answer: dict[str, Any] = {"left_out": f"after {self.options.seconds} s"}
            else:
                try:
                    answer = part()
                except Exception:  # noqa: BLE001 - continue with the other parts
                    answer = {"failed": traceback.format_exc()[-1_500:]}
            answer["part_seconds"] = round(time.perf_counter() - began, 2)
            self.found[part.__name__] = answer
            self.found["stages"] = self.stages
            self.found["stages_sum"] = round(sum(self.stages.values()), 2)
            print(f"[{time.perf_counter() - self.began:5.1f}] {part.__name__}: {json.dumps(answer)}", flush=True)
            (self.options.out / "million.json").write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")

    # ------------------------------------------------------------------------------------------------------ the parts

    def data(self) -> dict[str, Any]:
        """Make the real rows and their jittered copies on the device."""
        torch, options = self.torch, self.options
        with torch.inference_mode():
            real = torch.from_numpy(np.load(options.vectors).astype(np.float32)).to(self.device)
            generator = torch.Generator(device=self.device).manual_seed(0)
            dimensions = real.shape[1]
            if dimensions < options.dim:
                random = torch.randn((options.dim, dimensions), generator=generator, device=self.device)
                real = real @ torch.linalg.qr(random)[0].T
            real = self._unit(real[:20_000, : options.dim])
            many = np.empty((options.rows, options.dim), np.float32)
            for start in range(0, options.rows, 65_536):
                size = min(65_536, options.rows - start)
                drawn = torch.randint(len(real), (size,), generator=generator, device=self.device)
                noise = torch.randn((size, options.dim), generator=generator, device=self.device)
                many[start : start + size] = self._unit(real[drawn] + 0.02 * noise).cpu().numpy()
            self.real, self.many = real.cpu().numpy(), many
        return {"real_rows": list(self.real.shape), "dimensions_of_the_file": dimensions}

    def _unit(self, rows: Any) -> Any:
        wide = rows.double()
        return (wide / wide.norm(dim=1, keepdim=True)).float()

    def _search(self, rows: Any) -> Any:
        from latentscale.backends.torch.neighbors import nearest_neighbors

        return nearest_neighbors(rows, k=K, recall_target=0.95, seed=0, devices=[self.device])

    def real_neighbors(self) -> dict[str, Any]:
        """Compute the graph of the real rows twice, and compare it with a search of all columns in float32."""
        neighbors = _module("neighbors")

        first_call, _ = self.timed(lambda: self._search(self.real))
        second_call, graph = self.timed(lambda: self._search(self.real))
        with self.torch.inference_mode(), neighbors.exact_products():
            matrix = neighbors.Matrix(self.real, self.device, copies=None, half=False)
            rows = matrix.rows(0, len(self.real))
            candidates = neighbors._of_all_columns(matrix, rows, wide=K + 9, half=False)
            indices, distances = neighbors._measure_block(matrix, rows, 0, candidates, k=K)
        self.real_graph = graph
        return {
            "first_call": first_call["seconds"],
            **second_call,
            "recall": graph.recall,
            "details": graph.details,
            "indices_equal": float((graph.indices == indices).mean()),
            "distances_differ_most": float(np.abs(graph.distances - distances).max()),
        }

    def real_tree(self) -> dict[str, Any]:
        """Compute the tree of the real rows' first five components; start Prim's algorithm in another process."""
        from latentscale.backends.torch.spanning import spanning_tree

        axes = np.linalg.svd(self.real[:5_000] - self.real.mean(axis=0), full_matrices=False)[2][:5]
        self.axes = axes
        self.real_points = np.ascontiguousarray((self.real @ axes.T).astype(np.float64))
        self.pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self.prim = self.pool.submit(exact_tree, self.real_points, MIN_SAMPLES)
        first, _ = self.timed(lambda: spanning_tree(self.real_points, min_samples=MIN_SAMPLES, device=self.device))
        facts, self.real_ways = self.timed(
            lambda: spanning_tree(self.real_points, min_samples=MIN_SAMPLES, device=self.device)
        )
        return {"first_call": first["seconds"], **facts, "length": float(self.real_ways[:, 2].sum())}

    def real_tree_agrees(self) -> dict[str, Any]:
        """Compare the edge lengths with those of an exact tree."""
        truth = self.prim.result(timeout=max(5.0, 20.0 + self.options.seconds - (time.perf_counter() - self.began)))
        lengths = self.real_ways[:, 2]
        return {
            "rows": len(self.real_points),
            "length_differs_by": float(abs(lengths.sum() - truth.sum())),
            "ways_differ_by_at_most": float(np.abs(lengths - truth).max()),
        }

    def neighbors(self) -> dict[str, Any]:
        """Compute the graph of the million."""
        facts, self.graph = self.stage("neighbours", lambda: self._search(self.many))
        return facts | {"recall": self.graph.recall, "details": self.graph.details}

    def _edges(self, graph: Any) -> Any:
        from latentscale.backends.torch.device import exact_products, repeatable
        from latentscale.backends.torch.fuzzy import fuzzy_edges

        with self.torch.inference_mode(), exact_products(), repeatable(True):
            return fuzzy_edges(graph, n_neighbors=K, device=self.device)

    def _placed(self, edges: Any, rows: Any, dimensions: int, min_dist: float) -> Any:
        from latentscale.backends.torch.layout import layout

        options: dict[str, Any] = {"n_components": dimensions, "min_dist": min_dist, "deterministic": True}
        return layout(edges, rows, device=self.device, **options, **LAYOUT)[0]

    def _figures(self, rows: Any, coordinates: Any, sample: int) -> dict[str, Any]:
        from latentscale.backends.torch.faithfulness import faithfulness

        facts, result = self.timed(
            lambda: faithfulness(rows, coordinates, k=K, sample=sample, seed=0, device=self.device)
        )
        return facts | {"trustworthiness": result.trustworthiness, "preservation": result.preservation}

    def real_map(self) -> dict[str, Any]:
        """Compute the map of the real rows, whose figures can be compared with those of the cpu backend on them."""
        edges = self._edges(self.real_graph)
        facts, flat = self.timed(lambda: self._placed(edges, self.real, 2, 0.1))
        return facts | {"figures": self._figures(self.real, flat, 2_000)}

    def layouts(self) -> dict[str, Any]:
        """Compute the fuzzy set once, then the map and the layout that is clustered, deterministically."""
        facts, edges = self.stage("fuzzy set", lambda: self._edges(self.graph))
        flat, self.flat = self.stage("layout 2-D", lambda: self._placed(edges, self.many, 2, 0.1))
        deep, self.deep = self.stage("layout 5-D", lambda: self._placed(edges, self.many, 5, 0.0))
        return {"fuzzy": facts | {"edges": len(edges.weight)}, "2-D": flat, "5-D": deep}

    def tree(self) -> dict[str, Any]:
        """Compute the tree of the 5-D layout twice."""
        from latentscale.backends.torch.spanning import spanning_tree

        def make_tree() -> Any:
            return spanning_tree(self.deep, min_samples=MIN_SAMPLES, device=self.device)

        facts, self.ways = self.stage("tree", make_tree)
        second_call, ways = self.timed(make_tree)
        np.savez(
            self.options.out / "tree.npz",
            ends=self.ways[:, :2].astype(np.int32),
            lengths=self.ways[:, 2].astype(np.float32),
        )
        return facts | {
            "again": second_call["seconds"],
            "same_bits_again": ways.tobytes() == self.ways.tobytes(),
            "length": float(self.ways[:, 2].sum()),
        }

    def clusters(self) -> dict[str, Any]:
        """Compute clusters of the tree on the host, if hdbscan is installed."""
        try:
            import hdbscan
        except ImportError:
            return {"left_out": "hdbscan is not installed here"}
        from latentscale.backends.cpu.density_tree import single_linkage, stable_clusters

        _ = hdbscan
        linkage, hierarchy = self.stage("linkage", lambda: single_linkage(self.ways))
        selection, result = self.stage(
            "clusters",
            lambda: stable_clusters(
                hierarchy,
                min_cluster_size=max(5, len(self.deep) // 500),
                cluster_selection_method="eom",
                cluster_selection_epsilon=0.0,
            ),
        )
        return {"linkage": linkage, "clusters": selection, "count": int(result[0].max()) + 1}

    def tree_on_processors(self) -> dict[str, Any]:
        """Compute the same tree with the cpu backend on all processors, if numba is installed."""
        try:
            spanning = importlib.import_module("latentscale.backends.cpu.spanning")
            spanning.spanning_tree(self.deep[:2_000], min_samples=MIN_SAMPLES, threads=1)
        except ImportError as error:
            return {"left_out": str(error)}
        threads = len(os.sched_getaffinity(0))
        facts, ways = self.timed(lambda: spanning.spanning_tree(self.deep, min_samples=MIN_SAMPLES, threads=threads))
        return facts | {"threads": threads, "length_differs_by": float(abs(ways[:, 2] - self.ways[:, 2]).sum())}

    def map_figures(self) -> dict[str, Any]:
        """Measure trustworthiness and preservation of the map on a sample."""
        return self._figures(self.many, self.flat, 1_000)

    def small_trees(self) -> dict[str, Any]:
        """Time trees of random samples of the layout, to find the size from which the device is faster."""
        from latentscale.backends.torch.spanning import spanning_tree

        random = np.random.default_rng(0)
        seconds: dict[str, Any] = {}
        for rows in (10_000, 30_000, 100_000, 300_000):
            if rows < len(self.deep):
                subset = self.deep[random.choice(len(self.deep), rows, replace=False)]
                facts, _ = self.timed(
                    lambda subset=subset: spanning_tree(subset, min_samples=MIN_SAMPLES, device=self.device)
                )
                seconds[str(rows)] = facts["seconds"]
        return seconds

    def tree_parts(self) -> dict[str, Any]:
        """Profile the tree, with several block sizes."""
        blocks, spanning = _module("blocks"), _module("spanning")

        results: dict[str, Any] = {}
        for size in (64, 32, 128):
            with (
                self.constants(blocks, _BLOCK=size),
                self.parts(spanning, "_distinct", "in_blocks", "nearest_points", "_tree") as seconds,
                self.parts(blocks, "_within", "_first_of_rows", "close_pairs") as inner,
                self.parts(spanning._Search, "round", "_take_known", "_take_following", "_compare") as rounds,
            ):
                facts, _ = self.timed(
                    lambda: spanning.spanning_tree(self.deep, min_samples=MIN_SAMPLES, device=self.device)
                )
            results[f"blocks of {size}"] = facts | {"parts": seconds | inner | rounds}
        return results

    def tree_of_components(self) -> dict[str, Any]:
        """Compute the tree of the million's first five principal components, as in benchmarks/gpu/clusters.py."""
        from latentscale.backends.torch.spanning import spanning_tree

        points = np.ascontiguousarray((self.many @ self.axes.T).astype(np.float64))
        facts, ways = self.timed(lambda: spanning_tree(points, min_samples=MIN_SAMPLES, device=self.device))
        return facts | {"length": float(ways[:, 2].sum())}

    def _asked(self, rows: int, *, half: bool) -> tuple[Any, Any]:
        neighbors = _module("neighbors")

        matrix = neighbors.Matrix(self.many, self.device, copies=None, half=half)
        # A test run on a CPU uses fewer.
        rows = rows if self.device.type == "cuda" else rows // 64
        return matrix, matrix.rows(0, min(rows, len(self.many)), half=half)

    def search_parts(self) -> dict[str, Any]:
        """Profile the search."""
        neighbors = _module("neighbors")

        half = self.device.type == "cuda"
        unit, _ = self.timed(lambda: neighbors.unit_rows(self.many))
        copies, _ = self.timed(lambda: neighbors.first_copies(self.many, k=K))
        with self.torch.inference_mode(), neighbors.exact_products(), self.constants(neighbors, _SEARCHED_ON=()):
            moved, (matrix, asking) = self.timed(lambda: self._asked(ASKING, half=half))
            with self.parts(neighbors, "_maxima", "_threshold", "_again", "_of_all_columns") as inner:
                facts, candidates = self.timed(lambda: neighbors._candidates(matrix, asking, k=K, half=half))
            measured, _ = self.timed(
                lambda: neighbors._measure_block(matrix, matrix.rows(0, len(asking)), 0, candidates, k=K)
            )
        return {
            "asking": len(asking),
            "on the host": {"unit rows": unit["seconds"], "first copies": copies["seconds"]},
            "moved": moved["seconds"],
            "candidates": facts | {"parts": inner},
            "measured": measured["seconds"],
        }

    def search_variants(self) -> dict[str, Any]:
        """Time candidates with other sizes, and by a search of all columns (for an eighth of the rows)."""
        neighbors = _module("neighbors")

        half = self.device.type == "cuda"
        seconds: dict[str, Any] = {}
        # Groups, rows and columns of a tile; the third fits the cache of an H100.
        sizes = [(16, 8_192, 16_384), (32, 8_192, 16_384), (16, 2_048, 8_192), (16, 4_096, 16_384), (8, 8_192, 16_384)]
        with self.torch.inference_mode(), neighbors.exact_products(), self.constants(neighbors, _SEARCHED_ON=()):
            matrix, asking = self._asked(ASKING, half=half)
            for group, rows, columns in sizes:
                with self.constants(neighbors, _GROUP=group, _ROWS=rows, _COLUMNS=columns):
                    facts, _ = self.timed(lambda: neighbors._candidates(matrix, asking, k=K, half=half))
                seconds[f"groups of {group}, {rows} × {columns}"] = facts["seconds"]
            fewer_queries = asking[: len(asking) // 8]
            facts, _ = self.timed(lambda: neighbors._of_all_columns(matrix, fewer_queries, wide=K + 9, half=half))
            seconds["all columns, eight times"] = round(8 * facts["seconds"], 3)
            if half:
                matrix, asking = self._asked(ASKING // 4, half=False)
                facts, _ = self.timed(lambda: neighbors._candidates(matrix, asking, k=K, half=False))
                seconds["float32, groups of 16, four times"] = round(4 * facts["seconds"], 3)
        return seconds

    def operations(self) -> dict[str, Any]:
        """Time single operations on a tile of 8,192 × 16,384 products, in milliseconds."""
        torch = self.torch
        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        rows, columns = (8_192, 16_384) if self.device.type == "cuda" else (512, 1_024)
        with torch.inference_mode():
            a = torch.from_numpy(self.many[:rows]).to(self.device).to(dtype)
            b = torch.from_numpy(self.many[-columns:]).to(self.device).to(dtype)
            tile = a @ b.T
            groups = tile.view(len(a), 16, -1)
            limit = groups.amax(1).amax(1) - 0.05
            columns_of_groups = torch.randint(len(b), (min(20_000, 20 * len(a)), 16), device=self.device)
            query_rows = a[torch.randint(len(a), (len(columns_of_groups),), device=self.device)][:, :, None]
            gathered = b[columns_of_groups]
            work: dict[str, Callable[[], Any]] = {
                "product": lambda: a @ b.T,
                "largest of 16, apart": lambda: tile.view(len(a), 16, -1).amax(1),
                "largest of 16, side by side": lambda: tile.view(len(a), -1, 16).amax(2),
                "largest of 32, apart": lambda: tile.view(len(a), 32, -1).amax(1),
                "largest of halves": lambda: torch.maximum(*tile.chunk(2, dim=1)),
                "topk of all columns": lambda: tile.topk(24, dim=1),
                "topk of all columns, float32": lambda: tile.float().topk(24, dim=1),
                "topk of 512": lambda: tile[:, :512].contiguous().topk(24, dim=1),
                "compare": lambda: tile >= limit[:, None],
                "compare and find": lambda: (tile >= limit[:, None]).view(-1).nonzero(),
                "gather 16 rows": lambda: b[columns_of_groups],
                "products of gathered rows": lambda: torch.bmm(gathered, query_rows),
                "products of gathered rows, by sums": lambda: (gathered * query_rows.mT).sum(2),
            }
            return {name: self._milliseconds(operation) for name, operation in work.items()}

    def _milliseconds(self, work: Callable[[], Any], repeats: int = 5) -> float:
        work()
        self.wait()
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        self.wait()
        return round((time.perf_counter() - began) / repeats * 1e3, 3)


def main() -> None:
    """Measure, and write the results after each part."""
    parser = argparse.ArgumentParser(description="A million rows on one GPU.")
    parser.add_argument("vectors")
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=110.0, help="no part begins after so many")
    measurement = Million(parser.parse_args())
    measurement.run()
    measurement.pool.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    main()
