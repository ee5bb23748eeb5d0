"""Create attention masks without synchronising with the device.

transformers omits the mask of a batch without padding, which it checks on the device: in every batch the host waits
until the device has finished all queued work. The host already knows whether a batch is padded. Therefore the mask
functions of transformers are wrapped through its own interface (``transformers.masking_utils.AttentionMaskInterface``):
within :func:`known_padding` they use that knowledge, elsewhere they are unchanged. The masks are equal either way, for
every model that uses the interface: causal, sliding-window and additive masks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from threading import Lock
from typing import Any

# Not flash attention, which reads the mask in each layer to remove padding, nor flex attention with its block masks.
_IMPLEMENTATIONS = ("sdpa", "eager")
_SKIPS = ("allow_is_causal_skip", "allow_is_bidirectional_skip")
_padded: ContextVar[bool | None] = ContextVar("padded", default=None)
_registering = Lock()


@contextmanager
def known_padding(padded: bool) -> Generator[None, None, None]:
    """Within this context and thread, set whether the batch is padded.

    Parameters
    ----------
    padded : bool
        Whether any position is masked in the attention mask of the only batch computed meanwhile.
    """
    token = _padded.set(padded)
    try:
        yield
    finally:
        _padded.reset(token)


def register_masks() -> None:
    """Register the wrapped mask functions, also over functions that another package registered since."""
    from transformers.masking_utils import (  # pyright: ignore[reportMissingImports]
        ALL_MASK_ATTENTION_FUNCTIONS,
        AttentionMaskInterface,
    )

    with _registering:
        for name in _IMPLEMENTATIONS:
            registered: Any = ALL_MASK_ATTENTION_FUNCTIONS[name]
            if not getattr(registered, "knows_padding", False):
                AttentionMaskInterface.register(name, _with_known_padding(registered))


def _with_known_padding(mask_function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a mask function to use ``known_padding`` instead of reading the mask."""
    import torch

    @wraps(mask_function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        # A traced graph does not read the mask, and must not depend on the padding of one batch.
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        padded = None if traced else _padded.get()
        if padded is None or getattr(kwargs.get("attention_mask"), "ndim", 0) != 2:
            return mask_function(*args, **kwargs)
        if not padded:
            return mask_function(*args, **(kwargs | {"attention_mask": None}))
        return mask_function(*args, **(kwargs | {skip: False for skip in _SKIPS if skip in kwargs}))

    wrapper.knows_padding = True  # type: ignore[attr-defined]
    return wrapper
