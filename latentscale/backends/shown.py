"""When a layout that is still being optimised is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shown = Callable[[NDArray[np.float32], int, int], None]
    """Told (coordinates, epochs done, epochs)."""

QUARTERS = 4
# As long as a layout is optimised at a high rate, documents are shaken off their places: of one that is not, a copy is
# shown which has cooled down for some epochs. After a quarter of them that is nearly as good as the layout will be, and
# without it little better than none (docs/decisions/0019-preview.md).
COOLING = 5
COOLING_RATE = 0.2


def next_shown(done: int, total: int) -> int:
    """The epoch of ``total`` after which a layout is shown next: the end of a quarter, each rounded up, or the last."""
    return next(end for quarter in range(1, QUARTERS + 1) if (end := -(-total * quarter // QUARTERS)) > done)


def is_shown(done: int, total: int) -> bool:
    """Whether a layout is shown after ``done`` of ``total`` epochs: after each quarter but the last, its end."""
    return 0 < done < total and next_shown(done - 1, total) == done


def cooling(done: int, total: int, learning_rate: float) -> Iterator[tuple[int, float]]:
    """The epochs by which a copy of a layout cools down after ``done`` of ``total``, each with its rate."""
    rate = learning_rate * min(COOLING_RATE, 1.0 - done / total)
    for step in range(COOLING):
        yield done + step, rate * (1.0 - step / COOLING)
