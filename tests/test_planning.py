from __future__ import annotations

from pathlib import Path

import pytest

from latentscale.config import JobConfig
from latentscale.errors import ResourceError
from latentscale.machine import Place
from latentscale.pipeline.preflight import NOT_OF_A_RUN, check_disk, check_place, stage_costs
from latentscale.registry import stages
from latentscale.stages.stage import JobSize
from latentscale.storage.objects import Store

JOB = JobConfig.model_validate({"corpus": {"sources": ["demo"]}, "out": "nowhere"})


def test_a_set_that_memory_cannot_hold_is_refused_with_what_would_fit() -> None:
    place = Place(memory_bytes=16e9, name="node 7")
    size = JobSize(documents=10_000_000, dim=256)
    with pytest.raises(ResourceError) as caught:
        check_place("neighbors", stage_costs(JOB, size)["neighbors"], place, size)
    assert caught.value.exit_code == 4
    assert "16.0 GB are free on node 7" in str(caught.value)
    share = float(str(caught.value).split("--sample ")[1].split(")")[0])
    for documents, fits in ((10_000_000 * share * 0.98, True), (10_000_000 * share * 1.1, False)):
        size = JobSize(documents=int(documents), dim=256)
        cost = stage_costs(JOB, size)["neighbors"]
        if fits:
            check_place("neighbors", cost, place, size)
        else:
            with pytest.raises(ResourceError):
                check_place("neighbors", cost, place, size)


def test_a_scratch_disk_that_is_too_small_is_refused() -> None:
    size = JobSize(documents=1_000_000, dim=768)
    place = Place(memory_bytes=1e12, disk_free_bytes=1e9, name="node 7")
    with pytest.raises(ResourceError, match=r"3\.1 GB of disk .* 1\.0 GB are free on node 7"):
        check_place("neighbors", stage_costs(JOB, size)["neighbors"], place, size)


def test_a_workspace_that_the_disk_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="free on its disk"):
        check_disk(Store(str(tmp_path / "not" / "there" / "yet")), 1e18)


@pytest.mark.parametrize(
    "entry", [entry for entry in stages() if entry.name not in NOT_OF_A_RUN], ids=lambda entry: entry.name
)
def test_the_cost_of_a_stage_grows_with_the_documents(entry) -> None:
    small, large = (
        stage_costs(JOB, JobSize(documents=n, dim=256, text_bytes=450.0 * n))[entry.name] for n in (1_000, 100_000)
    )
    assert 50 * small.cpu_seconds < large.cpu_seconds < 200 * small.cpu_seconds
    assert large.memory_bytes >= small.memory_bytes
    assert entry.unit == "shard" or large.memory_bytes > 0
