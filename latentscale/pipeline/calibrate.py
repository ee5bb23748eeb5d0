"""Measure how fast a core of this machine is, beside the one on which the rates of the stages were measured."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np

# The least seconds of a core that the works below take on the reference machine (two shared cores of an AMD EPYC).
# Of the product these were 4.4 ms with a search for the loaded BLAS in each, a seventh of it, that is made once now.
_PRODUCT_SECONDS = 3.8e-3
_GATHER_SECONDS = 10.5e-3
_TEXT_SECONDS = 0.42e-3
_BUDGET = 0.1


@cache
def core_speed() -> float:
    """How many times as fast as the reference core one of this machine is; measured once a process.

    Three works: a product of blocks, as of vectors; reads and sums at random places, as of the layout's descent; and
    words of texts, as of ingest and labels. Each counts with the least time that it took, in seconds of this thread,
    so that other work on the machine matters little: a third of a second in all.
    """
    ratios = [
        _PRODUCT_SECONDS / _least(_product()),
        _GATHER_SECONDS / _least(_gather()),
        _TEXT_SECONDS / _least(_text()),
    ]
    return float(np.exp(np.mean(np.log(ratios))))


def _least(work: Callable[[], object]) -> float:
    """The least seconds of a repeated work within the budget; three repetitions at least."""
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
