"""Inputs that the tests of the numerical backends share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOPICS = 12


@pytest.fixture(scope="session")
def topics() -> NDArray[np.int32]:
    """The topic of each of 3,000 documents."""
    return np.random.default_rng(1).integers(0, TOPICS, 3000).astype(np.int32)


@pytest.fixture(scope="session")
def vectors(topics: NDArray[np.int32]) -> NDArray[np.float32]:
    """Vectors of length 1 around twelve directions, 48 dimensions, of which some documents have the same one."""
    random = np.random.default_rng(2)
    centers = random.normal(size=(TOPICS, 48))
    made = centers[topics] + 0.45 * random.normal(size=(len(topics), 48))
    made[100:120] = made[100]
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made.astype(np.float32)
