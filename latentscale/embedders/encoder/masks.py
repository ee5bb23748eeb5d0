"""Masks of attention that are made without a look at the device.

transformers leaves a mask out where nothing is padded, for which it asks the device: the host waits there for all that
it gave the device before, in every batch. Whether a batch is padded is known on the host. So the functions by which
transformers makes masks are registered anew, through its own interface for that
(``transformers.masking_utils.AttentionMaskInterface``): within :func:`known_padding` they are told, elsewhere they are
what they were. The masks are the same either way, for every model that has them made there: causal ones, those of
windows, and masks that are added to scores.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from threading import Lock
from typing import Any

# Flash attention looks at the mask in each layer, to leave out what is padded; flex attention makes blocks of it.
_TOLD = ("sdpa", "eager")
_SKIPS = ("allow_is_causal_skip", "allow_is_bidirectional_skip")
_padded: ContextVar[bool | None] = ContextVar("padded", default=None)
_registering = Lock()


@contextmanager
def known_padding(padded: bool) -> Generator[None, None, None]:
    """Tell transformers, in this thread, whether a batch is padded.

    Parameters
    ----------
    padded : bool
        Whether a place is masked in the mask that the model gets meanwhile, the only one.
    """
    token = _padded.set(padded)
    try:
        yield
    finally:
        _padded.reset(token)


def tell_masks() -> None:
    """Register the functions that can be told; again, where somebody else registered others."""
    from transformers.masking_utils import (  # pyright: ignore[reportMissingImports]
        ALL_MASK_ATTENTION_FUNCTIONS,
        AttentionMaskInterface,
    )

    with _registering:
        for name in _TOLD:
            present: Any = ALL_MASK_ATTENTION_FUNCTIONS[name]
            if not getattr(present, "is_told", False):
                AttentionMaskInterface.register(name, _told(present))


def _told(make: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes masks as ``make`` does, and looks at none where it was told."""
    import torch

    @wraps(make)
    def made(*given: Any, **named: Any) -> Any:
        # A graph that is traced has no look at a mask, and must not depend on one batch.
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        padded = None if traced else _padded.get()
        if padded is None or getattr(named.get("attention_mask"), "ndim", 0) != 2:
            return make(*given, **named)
        if not padded:
            return make(*given, **(named | {"attention_mask": None}))
        return make(*given, **(named | {skip: False for skip in _SKIPS if skip in named}))

    made.is_told = True  # type: ignore[attr-defined]
    return made
