"""Measure the speed of a core of this machine, relative to the reference core of the rates."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np

# Smallest times of the workloads below on the reference machine (two shared cores of an AMD EPYC).
# The product took 4.4 ms including a search for the loaded BLAS (a seventh of it), which is now done once.
_PRODUCT_SECONDS = 3.8e-3
_GATHER_SECONDS = 10.5e-3
_TEXT_SECONDS = 0.42e-3
_BUDGET = 0.1


@cache
def core_speed() -> float:
    """Speed of a core relative to the reference core; measured once per process.

    Three workloads: a matrix product (vectors), random reads and sums (layout), and tokenization (ingest and labels).
    The minimum CPU time of each is used, so that other load matters little; takes a third of a second.
    """
    ratios = [
        _PRODUCT_SECONDS / _least(_product()),
        _GATHER_SECONDS / _least(_gather()),
        _TEXT_SECONDS / _least(_text()),
    ]
    return float(np.exp(np.mean(np.log(ratios))))


def _least(work: Callable[[], object]) -> float:
    """Smallest CPU time of a workload, repeated within the budget, at least three times."""
    best, spent, times = np.inf, 0.0, 0
    while spent < _BUDGET or times < 3:
        started = time.thread_time()
        work()
        took = max(time.thread_time() - started, 1e-6)
        best, spent, times = min(best, took), spent + took, times + 1
    return float(best)


def _product() -> Callable[[], object]:
    from latentscale.backends.cpu.parallel import one_blas_thread

    random = np.random.default_rng(0)
    rows = random.normal(size=(256, 256)).astype(np.float32)
    others = random.normal(size=(256, 4_096)).astype(np.float32)

    def work() -> object:
        with one_blas_thread():
            return rows @ others

    return work


def _gather() -> Callable[[], object]:
    random = np.random.default_rng(1)
    positions = random.integers(0, 400_000, 150_000)
    places = random.normal(size=(400_000, 8)).astype(np.float32)

    def work() -> object:
        some = places[positions]
        return np.sqrt((some * some).sum(axis=1)).sum()

    return work


def _text() -> Callable[[], object]:
    words = [f"word{number % 977}" for number in range(4_000)]
    text = " ".join(words)

    def work() -> object:
        counts: dict[str, int] = {}
        for word in text.lower().split():
            counts[word] = counts.get(word, 0) + 1
        return zlib.crc32(text.encode()), counts

    return work
