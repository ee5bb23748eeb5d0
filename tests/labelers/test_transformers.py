"""Labels by a chat model in torch, in the process of the stage."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale
from latentscale.errors import ConfigError
from latentscale.labelers.transformers import TransformersLabeler, TransformersLabelOptions
from latentscale.upkeep.verify import verify_workspace
from tests.labelers.killed import kill_when
from tests.labelers.tiny_chat import make_model

pytestmark = pytest.mark.slow
pytest.importorskip("torch", reason="the extra 'torch' is not installed")
pytest.importorskip("transformers", reason="the extra 'torch' is not installed")

ROUGH: dict[str, Any] = {"cluster": {"min_cluster_size": 12}, "project": {"n_epochs": 50}}
ANSWER = '{"label": "Games and fonts", "description": "Named by a model.", "confidence": 0.5}'


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights."""
    return make_model(tmp_path_factory.mktemp("models") / "noise")


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that gives every cluster one label."""
    return make_model(tmp_path_factory.mktemp("models") / "speaking", answer=ANSWER)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """A workspace with clusters, labelled by keyphrases."""
    folder = tmp_path_factory.mktemp("local")
    demo.filter(pl.col("section").is_in(["games", "perl", "mail", "fonts"]))[:600].write_parquet(folder / "c.parquet")
    latentscale.run(folder / "c.parquet", out=folder / "ws", progress="quiet", **ROUGH)
    return folder / "ws"


@pytest.fixture
def place(mapped: Path, tmp_path: Path) -> Path:
    """A copy of that workspace."""
    shutil.copytree(mapped, tmp_path / "ws")
    return tmp_path / "ws"


def by_model(model: Path, **options: Any) -> dict[str, Any]:
    return {"method": "transformers", "options": {"model": str(model), "max_output_tokens": 64, **options}}


def record_of(place: Path) -> Any:
    """The record of the labels that were made last."""
    labels = [one for one in latentscale.open(place).artifacts if one.kind == "labels"]
    # By its file: what a record says of its time is to the second, in which several may be made.
    return max(labels, key=lambda one: (place / one.folder / "artifact.json").stat().st_mtime_ns)


def drop_labels(place: Path) -> None:
    """Delete the records of the model's labels; their receipts stay."""
    for one in latentscale.open(place).artifacts:
        if one.kind == "labels" and one.request["method"] == "transformers":
            (place / one.folder / "artifact.json").unlink()


def test_what_a_model_says_is_read_checked_and_kept(place: Path, speaking: Path) -> None:
    labels = latentscale.open(place).map(label=by_model(speaking, held_out=False), **ROUGH).labels()
    own = labels.filter(labels["source"] == "transformers")
    # All siblings were told the same name: the largest of each family has it.
    assert own["label"].str.starts_with("Games and fonts").all()
    assert set(zip(own["description"], own["confidence"], strict=True)) == {("Named by a model.", 0.5)}
    assert len(own) == len(labels.select("layer", "parent").unique())
    others = labels.filter(labels["source"] != "transformers")
    assert len(others) > 0
    assert others["reason"].str.contains("says the same as its sibling's").all()
    record = record_of(place)
    assert record.counts["asked"] == len(labels)
    assert record.choices["spending"]["output_tokens"] > 0
    assert record.choices["transport"]["model"] == str(speaking)
    assert any("in fp32 on cpu, with transformers" in note for note in record.notes)
    # The answers are kept: the same again loads no model.
    drop_labels(place)
    moved = speaking.parent / "nowhere"
    again = latentscale.open(place).map(label=by_model(speaking, held_out=False, batch=3), **ROUGH).labels()
    assert again.equals(labels)
    assert record_of(place).counts["asked"] == 0
    assert verify_workspace(latentscale.open(place).store).faults == []
    with pytest.raises(ConfigError, match="there is no folder"):
        latentscale.open(place).map(label=by_model(moved), **ROUGH)


def test_noise_leaves_every_cluster_labelled_with_its_reason(place: Path, noise: Path) -> None:
    labels = latentscale.open(place).map(label=by_model(noise), **ROUGH).labels()
    assert len(labels) > 4
    for row in labels.iter_rows(named=True):
        assert row["label"]
        assert row["source"] == "transformers" or row["reason"]
    assert labels["reason"].str.contains("two answers of the model are no label").any()
    assert labels["held_out"].drop_nulls().len() > 0


def test_a_killed_run_asks_for_no_answer_again_that_was_written(place: Path, noise: Path) -> None:
    given = by_model(noise, batch=2, batch_tokens=1)
    # After its third answer it waits to be killed: it would else be done before a busy machine comes to look.
    program = textwrap.dedent(
        f"""
        import time
        import latentscale
        from latentscale.labelers import naming

        write, written = naming.write_receipt, []

        def write_and_hold(*given):
            write(*given)
            written.append(given)
            if len(written) == 3:
                time.sleep(600)

        naming.write_receipt = write_and_hold
        latentscale.open({str(place)!r}).map(label={given!r}, **{ROUGH!r})
        """
    )
    kill_when(lambda: len(list((place / "label-receipts").rglob("*.json"))) >= 3, program)
    kept = list((place / "label-receipts").rglob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in kept}
    labels = latentscale.open(place).map(label=given, **ROUGH).labels()
    assert record_of(place).counts["asked"] == len(labels) - len(before) > 0
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_questions_that_are_asked_together_are_answered_as_alone(noise: Path) -> None:
    from latentscale.labelers.chat import Question, Reply
    from latentscale.labelers.chat.answers import ONE_LABEL
    from latentscale.labelers.transformers import TorchChat

    def asked(budget: int) -> list[str]:
        options = TransformersLabelOptions(model=str(noise), max_output_tokens=64, batch_tokens=budget)
        chat = TorchChat.load(options, "cpu", context=2_048, title="noise")
        questions = [
            Question(prompt=lambda *, tokens, n=n: "word " * n, schema=ONE_LABEL)  # type: ignore[misc]
            for n in (3, 90, 20, 4)
        ]
        found = dict(chat.ask("Say something.", questions))
        return [one.text for at in range(4) if isinstance(one := found[at], Reply)]

    together, alone = asked(100_000), asked(1)
    assert len(alone) == 4
    assert len(set(alone)) > 1
    # Padding alters the last bits of the numbers, which may turn a choice between nearly equal tokens of noise.
    assert sum(one[:40] == other[:40] for one, other in zip(together, alone, strict=True)) >= 3


def test_a_damaged_model_is_refused_by_its_name(noise: Path, tmp_path: Path) -> None:
    from latentscale.config import LabelConfig

    broken = tmp_path / "broken"
    shutil.copytree(noise, broken)
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read"):
        TransformersLabeler.open(LabelConfig(**by_model(broken)), "cpu")
