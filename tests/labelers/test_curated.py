"""The labeler ``curated``: names of a person's file, then values of a trusted column, then keyphrases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import latentscale as ls
from latentscale.config import LabelConfig
from latentscale.demo import corpus_path
from latentscale.errors import ConfigError
from latentscale.labelers.curated import CuratedLabeler
from latentscale.labelers.protocol import ClusterEvidence, Label, Majority, NoLabel

CLUSTERS: dict[str, Any] = {"method": "kmeans", "n_clusters": 12}
FAST: dict[str, Any] = {"progress": "quiet", "project": {"n_epochs": 60}, "publish": {"viewer": False}}
NAMED: dict[str, Any] = {"layer": 0, "label": "Cards", "size": 4, "members": [0, 1, 2, 3], "rename": "Lost cards"}


def cluster(at: int, members: range, *, layer: int = 0, majority: Majority | None = None) -> ClusterEvidence:
    return ClusterEvidence(
        layer=layer,
        cluster=at,
        size=len(members),
        suggestion=f"Keyphrase {at}",
        keyphrases=(f"keyphrase {at}",),
        exemplars=(members[0],),
        majority=majority,
        members=np.array(members, np.int64),
    )


def named(options: dict[str, Any], *evidence: ClusterEvidence) -> tuple[list[Label | NoLabel], list[str]]:
    config = LabelConfig(method="curated", options=options)
    CuratedLabeler.check(config)
    labeler = CuratedLabeler.open(config, "cpu")
    return list(labeler.label(evidence)), labeler.notes


def test_names_of_a_file_go_to_the_clusters_that_have_their_documents() -> None:
    both = [
        NAMED | {"describe": "Cards that are lost."},
        NAMED | {"rename": "Fewer", "members": [1, 2], "size": 2},
        NAMED | {"rename": "Gone", "members": [90, 91]},
        NAMED | {"rename": "Coarse", "layer": 1, "members": list(range(8)), "size": 8},
    ]
    found, notes = named({"file": both}, cluster(0, range(4)), cluster(1, range(4, 8)), cluster(0, range(8), layer=1))
    assert found == [
        Label(label="Lost cards", source="curated", description="Cards that are lost."),
        NoLabel(reason="no name of the file fits it", final=True),
        Label(label="Coarse", source="curated"),
    ]
    assert notes == [
        "The name 'Fewer' of the file is for the cluster that 'Lost cards' is of.",
        "The name 'Gone' of the file fits no cluster.",
    ]


@pytest.mark.parametrize(
    ("majority", "expected"),
    [
        (Majority(value="Card\tlost", share=0.7), Label(label="Card lost", source="curated", confidence=0.7)),
        (
            Majority(value="card", share=0.69),
            NoLabel(reason="no value of 'kind' is that of 70% of its documents: 'card' is of 69%", final=True),
        ),
        (None, NoLabel(reason="none of its documents has a value of 'kind'", final=True)),
        (
            Majority(value="x" * 81, share=1.0),
            NoLabel(reason="its value of 'kind' is not one line of at most 80 characters", final=True),
        ),
    ],
)
def test_a_value_that_most_documents_have_names_a_cluster(majority: Majority | None, expected: Label | NoLabel) -> None:
    found, _ = named(
        {"column": "kind", "file": [NAMED]}, cluster(0, range(4)), cluster(1, range(4, 8), majority=majority)
    )
    assert found == [Label(label="Lost cards", source="curated"), expected]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"neither label\.options.file nor label\.options.column is given"),
        ({"columns": "kind"}, r"there is no option label\.options\.columns"),
        ({"column": "kind", "purity": 0}, r"label\.options.purity: .*greater than 0"),
        ({"file": "none.csv"}, r"label\.options.file: there is no file none\.csv"),
        ({"file": [NAMED | {"hide": True}]}, r"label\.options.file: 'Cards': hide is no name"),
        ({"file": [NAMED | {"rename": None, "describe": "x"}]}, r"'Cards': it has a description, and no rename"),
    ],
)
def test_options_that_name_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CuratedLabeler.check(LabelConfig(method="curated", options=options))


def test_a_map_is_labelled_by_a_column_and_by_a_file(tmp_path: Path) -> None:
    frame = pl.read_parquet(corpus_path()).sample(500, shuffle=True, seed=3).select("package", "section", "text")
    label = {"method": "curated", "options": {"column": "section", "purity": 0.6}}
    ls.run(frame, out=tmp_path / "ws", text="text", id="package", cluster=CLUSTERS, label=label, **FAST)
    workspace = ls.open(tmp_path / "ws")
    chosen = workspace.the_map()
    labels = chosen.labels()
    points = chosen.points().collect().join(frame.select("package", "section"), on="package")
    for row in labels.to_dicts():
        inside = points.filter(pl.col("cluster" if row["layer"] == 0 else f"layer_{row['layer']}") == row["cluster"])
        most = inside["section"].value_counts(sort=True)["count"][0] / len(inside)
        if row["source"] == "curated":
            value = row["label"].partition(":")[0]
            assert row["confidence"] == pytest.approx((inside["section"] == value).mean(), abs=1e-6)
            assert row["confidence"] == pytest.approx(most, abs=1e-6)
            assert most >= 0.6
            assert row["reason"] is None
        else:
            assert row["source"] == "keyphrases"
            assert most < 0.6
            assert row["reason"].startswith("no value of 'section' is that of 60% of its documents")
    assert set(labels["source"]) == {"curated", "keyphrases"}
    record = workspace.artifact(chosen.record.request["labels"])
    assert any("The labeler curated could not name" in note for note in record.notes)
    scores = chosen.quality["labels"]
    assert scores["fallback_share"] == pytest.approx((labels["source"] == "keyphrases").mean())

    # A person names two clusters in a table: these names go first, and the file is not needed afterwards.
    path = workspace.export_labels(tmp_path / "names.csv")
    table = pl.read_csv(path, infer_schema=False)
    renamed = pl.Series([f"Mine {at}" if at < 2 else None for at in range(len(table))])
    table.with_columns(rename=renamed).write_csv(path, separator=";")
    options = {"file": str(path), "column": "section", "purity": 0.6}
    again = workspace.map(publish=True, label={"method": "curated", "options": options})
    path.unlink()
    wanted = {f"Mine {at}": int(table["size"][at]) for at in range(2)}
    mine = again.labels().filter(pl.col("label").str.starts_with("Mine"))
    assert dict(mine.select("label", "size").iter_rows()) == wanted
    assert set(mine["source"]) == {"curated"}
    assert workspace.run_stages([], until="publish").map == again.record
    facts = workspace.diff_labels(chosen.id, again.id)
    rows = {(row["layer"], row["cluster_after"]): row for row in facts["clusters"]}
    assert len(rows) == len(facts["clusters"]) == len(labels)
    assert set(facts["changes"]) == {"same", "renamed"}
    assert {row["overlap"] for row in rows.values()} == {1.0}
    for row in mine.to_dicts():
        assert rows[row["layer"], row["cluster"]]["change"] == "renamed"
        assert rows[row["layer"], row["cluster"]]["label_before"] in table["label"].to_list()[:2]
    with pytest.raises(ConfigError, match=r"label\.options\.column: the corpus has no column 'sektion'"):
        workspace.map(label={"method": "curated", "options": {"column": "sektion"}})
