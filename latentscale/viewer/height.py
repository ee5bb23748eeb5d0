"""The third dimension of a map: the height of each document above the 2-D map, and its density in 3-D."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import ShapeError

STEPS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Height:
    """Heights of the documents of a generation.

    Attributes
    ----------
    z : float32 ndarray, shape (n,)
        In the units of the map's x and y, finite.
    rank : uint8 ndarray, shape (n,)
        Quantile of the 3-D density among all documents of the map, in 256 steps; 255 is the densest.
    """

    z: NDArray[np.float32]
    rank: NDArray[np.uint8]

    @classmethod
    def of(cls, space: NDArray[np.float32], *, last: int | None = None) -> Height:
        """Heights from the positions of a whole map, float32 of shape (n, 3).

        Parameters
        ----------
        last : int, optional
            Return only the last ``last`` documents: those of an update, with ranks relative to the whole map.
        """
        from latentscale.backends.shapes import density

        densities = density(space)
        selected = slice(None if last is None else len(space) - last, None)
        ranks = np.searchsorted(np.sort(densities), densities[selected]) * 256 // max(len(space), 1)
        return cls(z=np.ascontiguousarray(space[selected, 2]), rank=ranks.astype(np.uint8))

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest z; if all are equal, slightly apart, so that the step size is positive."""
        low, high = float(self.z.min()), float(self.z.max())
        return (low, high) if high > low else (low - 0.5, low + 0.5)

    def steps(self) -> NDArray[np.uint16]:
        """``z`` quantised to 65,536 steps (uint16) from the lowest to the highest.

        A height is ``low + (step + 0.5) / 65536 * (high - low)``.
        """
        low, high = self.bounds
        return np.clip((self.z.astype(np.float64) - low) / (high - low) * STEPS, 0, STEPS - 1).astype(np.uint16)

    def check(self, documents: int) -> None:
        """Raise if the arrays do not have the expected length and values.

        Raises
        ------
        ShapeError
        """
        if self.z.shape != (documents,) or self.rank.shape != (documents,):
            raise ShapeError(f"the viewer got {len(self.z):,} heights for {documents:,} documents")
        not_finite = int((~np.isfinite(self.z)).sum())
        if not_finite:
            raise ShapeError(f"{not_finite:,} of {documents:,} documents have a height that is not a finite number")
