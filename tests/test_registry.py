"""The registries: every name resolves to its object, and nothing is imported early."""

from __future__ import annotations

import subprocess
import sys

import pytest

from latentscale import registry
from latentscale.config import JobConfig, ResourcesConfig
from latentscale.stages.stage import WholeStage
from latentscale.storage.artifacts import FOLDERS


@pytest.mark.parametrize("entry", registry.stages(), ids=lambda entry: entry.name)
def test_each_stage_is_where_its_line_says(entry: registry.StageEntry) -> None:
    stage = registry.load_stage(entry.name)
    assert stage.name == entry.name
    assert stage.entry is entry
    assert (entry.kind is None) == (entry.folder is None)
    assert isinstance(stage, WholeStage) == (entry.unit != "shard")
    assert (entry.resources or entry.name) in ResourcesConfig.model_fields
    assert (entry.resources or entry.name) in JobConfig.model_fields


@pytest.mark.parametrize(
    ("found", "attribute"),
    [(registry.EMBEDDERS, "from_settings"), (registry.BACKENDS, "missing"), (registry.LABELERS, "label")],
    ids=lambda value: getattr(value, "group", ""),
)
def test_each_registered_name_resolves_to_its_class(found: registry.Registry, attribute: str) -> None:
    for name in found.names():
        assert hasattr(found.load(name), attribute)
        assert name in found
    assert "nothing" not in found
    with pytest.raises(KeyError):
        found.load("nothing")


def test_kinds_come_parents_first() -> None:
    assert list(FOLDERS) == [
        "embedding",
        "neighbors",
        "projection",
        "clusters",
        "labels",
        "placement",
        "overlay",
        "map",
    ]


def test_a_registry_imports_nothing_before_it_is_used() -> None:
    program = (
        "import latentscale.registry, sys; print([m for m in sys.modules if m in ('numpy', 'pyarrow', 'pydantic')])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
