"""What the tests of the upkeep of a workspace share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from latentscale.storage import lease


@pytest.fixture(scope="session", autouse=True)
def leases_are_given_back() -> Iterator[None]:
    """The end of a run waits until its lease is deleted: objects are counted here, and a busy machine may be slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "END_TIMEOUT_SECONDS", 120.0)
        yield
