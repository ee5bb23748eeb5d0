"""A labeler whose answers are dear: each is asked for once, whatever happens."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale
from latentscale import registry
from latentscale.errors import DamagedObjectError, EnvironmentFailure
from latentscale.labelers import ClusterEvidence
from latentscale.labelers.protocol import Label
from latentscale.labelers.receipts import read_receipt, receipt_key, receipt_name, write_receipt
from latentscale.storage.objects import Store
from tests.labelers.killed import kill_when

DEAR = """
import os
import time

from latentscale.errors import EnvironmentFailure
from latentscale.labelers import Label


class Dear:
    name = "dear"
    needs = frozenset({"texts", "columns"})
    keeps_receipts = True
    batch = 2
    concurrency = 1

    @classmethod
    def check(cls, config):
        return {"prompt": config.options.get("prompt", "one")}

    @classmethod
    def open(cls, config, device):
        return cls()

    def label(self, evidence):
        labels = []
        for one in evidence:
            assert one.texts and one.suggestion
            with open(os.environ["DEAR_LOG"], "a") as log:
                log.write(f"{one.layer} {one.cluster} {'|'.join(c.column for c in one.columns)}\\n")
            silent = os.environ.get("DEAR_SILENT") == str(one.cluster)
            labels.append(None if silent else Label(label=f"About {one.keyphrases[0]}", source="dear"))
        if os.environ.get("DEAR_HOLDS") and len(open(os.environ["DEAR_LOG"]).readlines()) >= 4:
            time.sleep(600)
        if os.environ.get("DEAR_FAILS"):
            raise EnvironmentFailure("the model does not answer")
        return labels
"""

# Labels alone are looked at here: a rough layout will do.
SETTINGS: dict[str, Any] = {
    "label": {"method": "dear"},
    "cluster": {"min_cluster_size": 12},
    "project": {"n_epochs": 50},
}


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "dear_labeler.py").write_text(DEAR.replace("\\\\", "\\"))
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.setitem(registry.LABELERS._own, "dear", "dear_labeler:Dear")
    monkeypatch.setenv("DEAR_LOG", str(tmp_path / "log"))
    sys.modules.pop("dear_labeler", None)
    return tmp_path / "log"


@pytest.fixture
def corpus(tmp_path: Path, demo: pl.DataFrame) -> Path:
    demo.filter(pl.col("section").is_in(["games", "perl", "mail", "fonts"]))[:700].write_parquet(tmp_path / "c.parquet")
    return tmp_path / "c.parquet"


def asked(log: Path) -> list[str]:
    lines = log.read_text().splitlines() if log.exists() else []
    log.write_text("")
    return lines


def test_every_cluster_is_asked_for_once_with_texts_and_columns(corpus: Path, tmp_path: Path, log: Path) -> None:
    made = latentscale.run(corpus, out=tmp_path / "ws", **SETTINGS)
    labels = made.labels()
    lines = asked(log)
    assert len(lines) == len(labels) == len({line.rsplit(" ", 1)[0] for line in lines})
    assert any("section" in line for line in lines)
    assert labels["source"].unique().to_list() == ["dear"]
    assert labels.group_by("layer", "label").len()["len"].max() == 1
    # The same again finds the artifact; without it, the receipts.
    latentscale.run(corpus, out=tmp_path / "ws", **SETTINGS)
    for path in (tmp_path / "ws" / "labels").rglob("artifact.json"):
        path.unlink()
    latentscale.run(corpus, out=tmp_path / "ws", **SETTINGS)
    assert asked(log) == []


def test_another_prompt_asks_again_and_another_clustering_only_for_what_changed(
    corpus: Path, tmp_path: Path, log: Path
) -> None:
    latentscale.run(corpus, out=tmp_path / "ws", **SETTINGS)
    first = len(asked(log))
    ws = latentscale.open(tmp_path / "ws")
    other = ws.map(cluster={"min_cluster_size": 13})
    again = len(asked(log))
    clusters = len(other.labels())
    assert again < clusters
    ws.map(label={"method": "dear", "options": {"prompt": "two"}}, cluster={"min_cluster_size": 12})
    assert len(asked(log)) == first


def test_a_failure_keeps_the_answers_that_were_there(
    corpus: Path, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAR_FAILS", "1")
    with pytest.raises(EnvironmentFailure, match="does not answer"):
        latentscale.run(corpus, out=tmp_path / "ws", **SETTINGS)
    assert not list((tmp_path / "ws" / "labels").rglob("artifact.json"))
    monkeypatch.delenv("DEAR_FAILS")
    asked(log)
    made = latentscale.run(corpus, out=tmp_path / "ws", **SETTINGS)
    assert len(made.labels()) == made.record.counts["clusters"] + sum(made.record.counts["layers"][1:])


def test_a_cluster_that_got_no_name_keeps_its_keyphrases_and_it_is_said(
    corpus: Path, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAR_SILENT", "0")
    made = latentscale.run(corpus, out=tmp_path / "ws", **SETTINGS)
    labels = made.labels()
    sources = dict(labels.select("cluster", "source").filter(labels["layer"] == 0).rows())
    assert sources.pop(0) == "keyphrases"
    assert set(sources.values()) == {"dear"}
    record = next(r for r in latentscale.open(tmp_path / "ws").artifacts if r.kind == "labels")
    assert any("could not name" in note for note in record.notes)


def test_a_killed_run_repeats_no_finished_call(corpus: Path, tmp_path: Path, log: Path) -> None:
    program = textwrap.dedent(
        f"""
        from latentscale import registry
        registry.LABELERS._own["dear"] = "dear_labeler:Dear"
        import latentscale
        latentscale.run({str(corpus)!r}, out={str(tmp_path / "ws")!r}, label={{"method": "dear"}},
                        cluster={{"min_cluster_size": 12}}, project={{"n_epochs": 50}}, progress="quiet")
        """
    )
    path = os.pathsep.join([str(tmp_path / "code"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "DEAR_HOLDS": "1"}
    kill_when(lambda: log.exists() and len(log.read_text().splitlines()) >= 4, program, environment=environment)
    answered = {path.stem for path in (tmp_path / "ws" / "label-receipts").rglob("*.json")}
    before = asked(log)
    assert 2 <= len(answered) <= len(before)
    made = latentscale.run(corpus, out=tmp_path / "ws", **SETTINGS)
    after = asked(log)
    # The two of the batch that was cut off are asked for again, none whose answer was there.
    assert len(after) == len(made.labels()) - len(answered)
    assert len(before) - len(answered) <= 2


def test_receipts_are_kept_by_what_a_label_depends_on(tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    def evidence(**values: Any) -> ClusterEvidence:
        known = {
            "layer": 0,
            "cluster": 3,
            "size": 40,
            "suggestion": "Cards",
            "keyphrases": ("card",),
            "exemplars": (1, 2),
            "texts": ("a card",),
        }
        return ClusterEvidence(**{**known, **values})

    key = receipt_key({"prompt": "p"}, evidence())
    assert key == receipt_key({"prompt": "p"}, evidence(cluster=9, size=41, suggestion="Cards (9)"))
    others = [evidence(texts=("another",)), evidence(keyphrases=("bank",)), evidence(layer=1)]
    keys = {key, receipt_key({"prompt": "q"}, evidence()), *(receipt_key({"prompt": "p"}, one) for one in others)}
    assert len(keys) == 5
    write_receipt(store, key, Label(label="Naïve 東京", source="dear", details={"model": "m"}))
    assert read_receipt(store, key) == Label(label="Naïve 東京", source="dear", details={"model": "m"})
    store.put_bytes(receipt_name(key), b"{}")
    with pytest.raises(DamagedObjectError, match="named again"):
        read_receipt(store, key)
