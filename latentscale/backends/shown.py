"""When a layout that is still being optimised is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Shown = Callable[[NDArray[np.float32], int, int], None]
    """Told (coordinates so far, epochs done, epochs); what it keeps of the coordinates it copies."""

QUARTERS = 4


def next_shown(done: int, total: int) -> int:
    """The epoch of ``total`` after which a layout is shown next: the end of a quarter, each rounded up, or the last."""
    return next(end for quarter in range(1, QUARTERS + 1) if (end := -(-total * quarter // QUARTERS)) > done)


def is_shown(done: int, total: int) -> bool:
    """Whether a layout is shown after ``done`` of ``total`` epochs: after each quarter but the last, its end."""
    return 0 < done < total and next_shown(done - 1, total) == done
