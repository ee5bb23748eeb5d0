"""The request of a layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from latentscale.storage.request import Request, omitted_at_default


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionRequest(Request):
    """Everything that affects a layout.

    ``align`` is the map to which the layout is aligned by a similarity transform; ``fixed`` the layout that provides
    the first coordinates, which are not moved; ``earlier`` the map whose layout of as many dimensions is the initial
    one; ``density_weight`` the weight of densMAP's term.
    """

    VERSION: ClassVar[int] = 4

    neighbors: str
    snapshot: str
    embedding: str
    n_components: int
    n_neighbors: int
    min_dist: float
    spread: float
    n_epochs: int | None
    negative_sample_rate: int
    learning_rate: float
    seed: int
    deterministic: bool
    align: str | None = omitted_at_default(None)
    backend: str = omitted_at_default("cpu")
    fixed: str | None = omitted_at_default(None)
    earlier: str | None = omitted_at_default(None)
    density_weight: float = omitted_at_default(0.0)
