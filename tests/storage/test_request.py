"""Requests list their fields; a setting that is added later changes no id."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

import pytest

from latentscale.digest import artifact_id
from latentscale.errors import DamagedObjectError
from latentscale.stages.cluster import ClustersRequest
from latentscale.stages.embed import EmbeddingRequest
from latentscale.stages.label import LabelsRequest
from latentscale.stages.neighbors import NeighborsRequest
from latentscale.stages.project import ProjectionRequest
from latentscale.stages.publish.map import MapRequest
from latentscale.stages.update.place import PlacementRequest
from latentscale.storage.request import Request, not_in_identity, omitted_at_default

SAMPLES: dict[type[Request], dict[str, Any]] = {
    EmbeddingRequest: {"model": {"embedder": "static"}, "dtype": "float16", "text": "text"},
    NeighborsRequest: {"snapshot": "s", "embedding": "e", "k": 15, "method": "auto", "recall": 0.95, "seed": 42},
    ProjectionRequest: {
        "neighbors": "n",
        "snapshot": "s",
        "embedding": "e",
        "n_components": 2,
        "n_neighbors": 15,
        "min_dist": 0.1,
        "spread": 1.0,
        "n_epochs": None,
        "negative_sample_rate": 5,
        "learning_rate": 1.0,
        "seed": 42,
        "deterministic": True,
    },
    ClustersRequest: {"snapshot": "s", "embedding": "e", "method": "kmeans", "layer_factor": 5.0, "max_layers": 3},
    LabelsRequest: {
        "clusters": "c",
        "text": "text",
        "method": "keyphrases",
        "max_keyphrases": 10,
        "exemplars": 8,
        "max_documents_per_cluster": 1000,
        "seed": 42,
        "labeler": {},
    },
    MapRequest: {
        "snapshot": "s",
        "embedding": "e",
        "neighbors": "n",
        "projection": "p",
        "clusters": "c",
        "labels": "l",
        "publish": {"text": "page"},
        "quality": {"sample": 1000},
        "text": "text",
        "vectors": None,
    },
    PlacementRequest: {
        "parent": "m",
        "snapshot": "s",
        "embedding": "e",
        "fit": "m",
        "n_neighbors": 15,
        "spread": 1.0,
        "seed": 42,
        "recall": 0.95,
        "text": "text",
    },
}


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_a_new_setting_at_its_default_changes_no_id(kind: type[Request]) -> None:
    grown = make_dataclass(
        "Grown", [("novelty", str, omitted_at_default("none"))], bases=(kind,), frozen=True, kw_only=True, slots=False
    )
    before, after = kind(**SAMPLES[kind]), grown(**SAMPLES[kind])
    assert artifact_id("x", after.identity()) == artifact_id("x", before.identity())
    assert artifact_id("x", grown(**SAMPLES[kind], novelty="some").identity()) != artifact_id("x", before.identity())


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_every_other_field_is_a_part_of_the_identity(kind: type[Request]) -> None:
    request = kind(**SAMPLES[kind])
    assert request.identity().keys() >= {"version", *SAMPLES[kind]}
    for name in SAMPLES[kind]:
        other = kind(**{**SAMPLES[kind], name: "another"})
        assert artifact_id("x", other.identity()) != artifact_id("x", request.identity()), name


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_a_record_is_read_back_as_the_same_request(kind: type[Request]) -> None:
    request = kind(**SAMPLES[kind])
    assert kind.read(request.identity()) == request
    missing = next(one.name for one in fields(kind) if not one.metadata.get("later"))  # type: ignore[arg-type]
    with pytest.raises(DamagedObjectError, match=missing):
        kind.read({key: value for key, value in request.identity().items() if key != missing})


def test_values_are_plain() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Inner(Request):
        size: int

    @dataclass(frozen=True, kw_only=True)
    class Outer(Request):
        names: tuple[str, ...]
        inner: Inner
        options: dict[str, Any] = field(default_factory=dict)
        more: dict[str, Any] = omitted_at_default({})  # noqa: RUF009

    request = Outer(names=("a", "b"), inner=Inner(size=3), options={"k": (1, 2)})
    assert request.identity() == {
        "version": 1,
        "names": ["a", "b"],
        "inner": {"version": 1, "size": 3},
        "options": {"k": [1, 2]},
    }


def test_fields_outside_a_request_change_no_id_and_are_not_read_back() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Asked(Request):
        model: str
        pace: dict[str, Any] = not_in_identity({})  # noqa: RUF009

    slow, fast = Asked(model="m"), Asked(model="m", pace={"concurrency": 32})
    assert slow.identity() == fast.identity() == {"version": 1, "model": "m"}
    assert Asked.read(fast.identity()).pace == {}
