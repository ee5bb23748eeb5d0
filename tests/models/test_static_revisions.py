"""A new map gets the newest shipped model and records it; an older map is searched and grown with its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import latentscale as ls
from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec, open_embedder, read_spec
from latentscale.embedders.static import StaticSpec
from latentscale.errors import ConfigError
from latentscale.models import STATIC_MODELS, STATIC_REVISION, static_model_path

TEXTS = [
    f"{word} {number} of the {place}" for word in ("card", "letter", "song") for number in range(8) for place in "ab"
]


def test_a_record_without_a_revision_means_the_first() -> None:
    old = read_spec({"kind": "static", "folder": None, "max_tokens": 512})
    assert old.identity() == StaticSpec(revision="1").identity()
    assert old.name == STATIC_MODELS["1"]
    text = ["the bank of the river"]
    first = open_embedder(str(static_model_path("1"))).embed(text).vectors
    np.testing.assert_array_equal(old.open().embed(text).vectors, first)


def test_new_settings_mean_the_newest_and_record_it() -> None:
    spec = embedder_spec(EmbedConfig())
    assert spec.model_dump()["revision"] == STATIC_REVISION
    assert spec.settled_options() == {"revision": STATIC_REVISION}
    assert spec.identity() != StaticSpec(revision="1").identity()
    assert embedder_spec(EmbedConfig(options={"revision": "1"})).identity() == StaticSpec().identity()
    with pytest.raises(ConfigError, match="the shipped model has no revision '0'"):
        embedder_spec(EmbedConfig(options={"revision": "0"}))


def job(tmp_path: Path, **embed: Any) -> dict[str, Any]:
    return {
        "out": str(tmp_path / "ws"),
        "corpus": {"sources": [str(tmp_path / "corpus")], "text": "text"},
        "embed": embed,
        "cluster": {"min_cluster_size": 5},
        "engine": {"name": "local", "workers": 1},
    }


def test_an_update_goes_on_with_the_revision_of_its_map(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    pl.DataFrame({"text": TEXTS}).write_parquet(tmp_path / "corpus" / "a.parquet")
    workspace = ls.open(tmp_path / "ws", must_exist=False)
    made = workspace.run(job(tmp_path, options={"revision": "1"}), progress="quiet").records["embed"]
    assert made.choices["spec"]["revision"] == "1"
    pl.DataFrame({"text": ["a new song of the sea", "a letter to the bank"]}).write_parquet(
        tmp_path / "corpus" / "b.parquet"
    )
    grown = ls.open(tmp_path / "ws").run_update(progress="quiet")
    assert grown.records["embed"].id == made.id
    assert len(ls.open(tmp_path / "ws").the_map().points().collect()) == len(TEXTS) + 2
    assert ls.open(tmp_path / "ws").runs[-1]["job"]["embed"]["options"] == {"revision": "1"}
    # Only what differs is said, and digests are short.
    differs = r"was embedded with revision [0-9a-f]{12}…, tokenizer [0-9a-f]{12}…; this update would use revision "
    with pytest.raises(ConfigError, match=differs):
        ls.open(tmp_path / "ws").run_update(overrides=["embed.options.revision=2"], progress="quiet")
    assert ls.open(tmp_path / "ws").verify().faults == []
