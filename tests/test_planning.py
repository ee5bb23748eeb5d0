from __future__ import annotations

from pathlib import Path

import pytest

import latentscale.planning as planning
from latentscale.errors import ResourceError
from latentscale.storage.objects import Store


def test_a_set_that_memory_cannot_hold_is_refused_with_what_would_fit() -> None:
    with pytest.raises(ResourceError) as caught:
        planning.check_resources(10_000_000_000, 256, None, 0.0)
    assert caught.value.exit_code == 4
    assert "GB of memory" in str(caught.value)
    assert "--sample" in str(caught.value)
    planning.check_resources(1_000, 256, None, 0.0)


def test_a_workspace_that_the_disk_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="free on its disk"):
        planning.check_resources(1_000, 256, Store(str(tmp_path / "not" / "there" / "yet")), 1e18)


def test_every_stage_has_a_rate_and_a_need_of_memory() -> None:
    assert set(planning.CPU_SECONDS) == set(planning.MEMORY)
    assert set(planning.GLOBAL_STAGES) < set(planning.MEMORY)
