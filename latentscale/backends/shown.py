"""The epochs after which a preview of a running layout is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    PreviewCallback = Callable[[NDArray[np.float32], int, int], None]
    """Called with (coordinates, epochs done, epochs)."""

QUARTERS = 4
# At a high learning rate positions are noisy: a preview shows a copy of the layout that has run some epochs at a low
# rate. After a quarter of the epochs such a copy is nearly as good as the final layout, and without them little better
# than none (docs/decisions/0019-preview.md).
COOLING = 5
COOLING_RATE = 0.2


def next_shown(done: int, total: int) -> int:
    """Return the next epoch after which a layout is shown: the end of a quarter, rounded up, or the last epoch."""
    return next(end for quarter in range(1, QUARTERS + 1) if (end := -(-total * quarter // QUARTERS)) > done)


def is_shown(done: int, total: int) -> bool:
    """Whether a preview is shown after ``done`` of ``total`` epochs: after each quarter but the last."""
    return 0 < done < total and next_shown(done - 1, total) == done


def cooling(done: int, total: int, learning_rate: float) -> Iterator[tuple[int, float]]:
    """Yield the epochs, with their learning rates, that a preview runs on a copy after ``done`` of ``total`` epochs."""
    rate = learning_rate * min(COOLING_RATE, 1.0 - done / total)
    for step in range(COOLING):
        yield done + step, rate * (1.0 - step / COOLING)
