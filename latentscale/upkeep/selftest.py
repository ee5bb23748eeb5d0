"""Comparison of the backends available on this machine with the CPU backend, on the demo corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from latentscale.backends.canary import DOCUMENTS, Comparison, compare_backends
from latentscale.backends.select import REFERENCE, open_backend
from latentscale.engines.place import measure_place
from latentscale.errors import LatentScaleError
from latentscale.machine import available_memory, available_processors
from latentscale.registry import BACKENDS

# Documents used without a GPU: a GPU backend on the CPU then takes about as long as a GPU takes for all.
WITHOUT_GPU = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The test result of a backend on this machine.

    Attributes
    ----------
    backend : str
    comparison : Comparison or None
        None if the backend could not run.
    reason : str
        Why it could not run.
    """

    backend: str
    comparison: Comparison | None = None
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether the results agree with those of the CPU backend."""
        return self.comparison is not None and not self.comparison.failed

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        compared = None if self.comparison is None else self.comparison.as_json()
        return {"backend": self.backend, "comparison": compared, "reason": self.reason}

    def __str__(self) -> str:
        if self.comparison is None:
            return f"{self.backend:<10} not tested: {self.reason}"
        head = f"{self.backend:<10} {'ok' if self.holds else 'FAILED'}, {self.comparison.documents:,} documents"
        return "\n".join(
            [head, *(f"  {'ok    ' if check.holds else 'FAILED'} {check}" for check in self.comparison.checks)]
        )


def compare_all(names: Sequence[str] | None = None) -> tuple[Tested, ...]:
    """Compare the neighbours and layouts of backends with those of the CPU backend, on the demo corpus.

    Parameters
    ----------
    names : sequence of str, optional
        Backends to test; by default all registered ones.
    """
    threads = available_processors()
    here = measure_place(cpus=float(threads), memory_bytes=available_memory())
    found: list[Tested] = []
    vectors: Any = None
    for name in names if names is not None else [one for one in BACKENDS.names() if one != REFERENCE]:
        lacks = BACKENDS.load(name).missing(here)
        if lacks is not None:
            found.append(Tested(backend=name, reason=lacks))
            continue
        if vectors is None:
            vectors = _vectors(DOCUMENTS if here.gpus else WITHOUT_GPU)
        try:
            compared = compare_backends(open_backend(name), open_backend(REFERENCE), vectors, threads=threads)
        except LatentScaleError as error:
            found.append(Tested(backend=name, reason=error.message))
            continue
        found.append(Tested(backend=name, comparison=compared))
    return tuple(found)


def _vectors(documents: int) -> Any:
    import pyarrow.parquet as pq

    from latentscale.demo import corpus_path
    from latentscale.embedders import open_embedder

    texts = pq.read_table(corpus_path(), columns=["text"])["text"].slice(0, documents).to_pylist()
    embedded = open_embedder().embed(texts)
    return embedded.vectors[embedded.embeddable]
