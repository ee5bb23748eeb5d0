"""With an embedder that is not deterministic, unchanged documents keep their vectors and positions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import latentscale
from latentscale import registry
from latentscale.storage.artifacts import read_table
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import load_vectors

NOISY = """
import os
from typing import Literal

import numpy as np

from latentscale.embedders.protocol import Embedded
from latentscale.embedders.static import StaticEmbedder, StaticSpec


class NoisySpec(StaticSpec):
    kind: Literal["noisy"] = "noisy"

    @classmethod
    def from_settings(cls, config, *, vectors_column):
        return cls()

    def identity(self):
        return {"embedder": "noisy"}

    def open(self, device="cpu"):
        return Noisy(self.path)


class Noisy(StaticEmbedder):
    def embed(self, texts):
        with open(os.environ["NOISY_LOG"], "a") as log:
            log.write(f"{len(texts)}\\n")
        found = super().embed(texts)
        noise = np.random.default_rng().normal(scale=1e-6, size=found.vectors.shape)
        vectors = (found.vectors * (1 + noise)).astype(np.float32)
        return Embedded(vectors=vectors, embeddable=found.embeddable, tokens=0, unknown=0, truncated=0)
"""

SETTINGS = {"embed": {"model": "noisy", "dtype": "float32"}, "cluster": {"min_cluster_size": 12}}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs the embedder ``noisy``; the file tells how many texts it was given."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "noisy_embedder.py").write_text(NOISY)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setitem(registry.EMBEDDERS._own, "noisy", "noisy_embedder:NoisySpec")
    monkeypatch.setenv("NOISY_LOG", str(tmp_path / "log"))
    sys.modules.pop("noisy_embedder", None)
    return tmp_path / "log"


@pytest.fixture
def folder(tmp_path: Path, demo: pl.DataFrame, log: Path) -> Path:
    """Two small files that are read as one group."""
    (tmp_path / "corpus").mkdir()
    demo[:200].write_ndjson(tmp_path / "corpus" / "a.jsonl")
    demo[200:400].write_ndjson(tmp_path / "corpus" / "b.jsonl")
    return tmp_path


def embedded_count(log: Path) -> int:
    count = sum(map(int, log.read_text().split())) if log.exists() else 0
    log.write_text("")
    return count


@pytest.mark.parametrize("id_column", [None, "package"])
def test_none_of_400_documents_is_placed_or_embedded_again(folder: Path, log: Path, id_column: str | None) -> None:
    made = latentscale.run(str(folder / "corpus"), out=folder / "ws", text="text", id=id_column, **SETTINGS)
    before = made.points().collect().sort("row_id")
    assert embedded_count(log) == 400
    # The group of small files is another one now, and is read again from beginning to end.
    (folder / "corpus" / "a.jsonl").rename(folder / "corpus" / "c.jsonl")
    ws = latentscale.open(folder / "ws")
    grown = ws.update()
    after = grown.points().collect().sort("row_id")
    assert embedded_count(log) == 0
    same = [
        "row_id",
        "x",
        "y",
        "cluster",
        "nearest_cluster",
        "probability",
        "text" if "text" in after.columns else "package",
    ]
    assert before.select(same).sort("row_id").equals(after.select(same).sort("row_id"))
    placement = next(record for record in ws.artifacts if record.kind == "placement")
    assert placement.counts["documents"] == 0
    assert placement.counts["reused"] == 400
    assert len(read_table(ws.store, placement, "reused")) == 400


def test_only_changed_documents_are_embedded_and_placed(folder: Path, log: Path, demo: pl.DataFrame) -> None:
    latentscale.run(str(folder / "corpus"), out=folder / "ws", text="text", id="package", **SETTINGS)
    embedded_count(log)
    changed = demo[:200].with_columns(
        text=pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("a game of chess on the board")).otherwise("text")
    )
    changed.write_ndjson(folder / "corpus" / "a.jsonl")
    ws = latentscale.open(folder / "ws")
    ws.update()
    # The three have one text, and each different text is embedded once.
    assert embedded_count(log) == 1
    placement = next(record for record in ws.artifacts if record.kind == "placement")
    assert placement.counts["documents"] == 3


def test_reused_vectors_are_the_stored_ones_to_the_bit(folder: Path, log: Path) -> None:
    first = latentscale.run(str(folder / "corpus"), out=folder / "ws", text="text", id="package", **SETTINGS)
    ws = latentscale.open(folder / "ws")

    def vectors(made: latentscale.Map) -> dict[int, bytes]:
        request = made.record.request
        found = load_vectors(ws.store, read_snapshot(ws.store, request["snapshot"]), request["embedding"])
        return {int(row): np.asarray(vector).tobytes() for row, vector in zip(found.row_ids, found.matrix, strict=True)}

    before = vectors(first)
    (folder / "corpus" / "b.jsonl").rename(folder / "corpus" / "0.jsonl")
    assert vectors(ws.update()) == before


def test_a_placement_goes_by_the_text_where_the_vectors_were_made_again(folder: Path, log: Path) -> None:
    first = latentscale.run(str(folder / "corpus"), out=folder / "ws", text="text", id="package", **SETTINGS)
    before = first.points().collect().sort("row_id")
    (folder / "corpus" / "a.jsonl").rename(folder / "corpus" / "c.jsonl")
    # Somebody embeds the renamed corpus in full before the update comes.
    ws = latentscale.open(folder / "ws")
    import shutil

    shutil.copytree(folder / "ws", folder / "other")
    (folder / "other" / "HEAD.json").unlink()
    latentscale.run(str(folder / "corpus"), out=folder / "other", text="text", id="package", **SETTINGS)
    shutil.copytree(folder / "other" / "embeddings", folder / "ws" / "embeddings", dirs_exist_ok=True)
    after = ws.update().points().collect().sort("row_id")
    same = ["row_id", "x", "y", "cluster"]
    assert before.select(same).equals(after.select(same))
