"""What a person changes of the labels stays: through a labelling anew, an update, and a refit with more documents."""

from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import latentscale as ls
from latentscale.demo import corpus_path
from latentscale.errors import ConfigError, RequestError, WorkspaceError
from latentscale.labelers.edits import ClusterEdit, parse_edits

FAST: dict[str, Any] = {"progress": "quiet", "project": {"n_epochs": 60}, "publish": {"viewer": False}}
# Leaves: on a short layout of few documents `eom` finds twenty clusters or three, by the last bits of the processor.
SMALL: dict[str, Any] = {"min_cluster_size": 8, "cluster_selection_method": "leaf"}
ENTRY: dict[str, Any] = {"layer": 0, "label": "Games", "size": 20, "members": [1, 2, 3]}


def shuffled(rows: int, seed: int = 3) -> pl.DataFrame:
    return pl.read_parquet(corpus_path()).sample(rows, shuffle=True, seed=seed).select("package", "text")


def read_entries(path: Path) -> list[dict[str, Any]]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))["clusters"]


def write_entries(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text(yaml.safe_dump({"edits": 1, "clusters": entries}, allow_unicode=True), encoding="utf-8")
    return path


def labels_record(workspace: ls.Workspace) -> Any:
    current = workspace.current
    assert current is not None
    return workspace.artifact(current.record.request["labels"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ls.Workspace, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("edits") / "ws"
    frame = shuffled(1_100)
    ls.run(frame[:1_000], out=folder, text="text", id="package", cluster=SMALL, **FAST)
    return ls.open(folder), frame


def test_edits_hold_through_import_update_and_refit(made: tuple[ls.Workspace, pl.DataFrame], tmp_path: Path) -> None:
    workspace, frame = made
    before = workspace.the_map()
    points = before.points().collect()
    path = workspace.export_labels(tmp_path / "edits.yaml")
    entries = read_entries(path)
    assert len(entries) == len(before.labels())
    finest = [entry for entry in entries if entry["layer"] == 0]
    finest[0] |= {"rename": "First: renamed", "describe": "What is in the first."}
    finest[1]["hide"] = True
    finest[2]["merge"] = finest[3]["merge"] = "Third & fourth"
    next(entry for entry in entries if entry["layer"] == 1)["rename"] = "A coarse one"
    workspace.import_labels(write_entries(path, entries))

    labels = workspace.the_map().labels()
    assert labels.filter(pl.col("label") == "First: renamed")["description"].to_list() == ["What is in the first."]
    assert labels.filter(pl.col("label") == "First: renamed")["source"].to_list() == ["edited"]
    assert labels.filter("hidden")["size"].to_list() == [finest[1]["size"]]
    merged = labels.filter(pl.col("label") == "Third & fourth")
    assert merged["size"].to_list() == [finest[2]["size"] + finest[3]["size"]]
    assert labels.filter(pl.col("label") == "A coarse one")["layer"].to_list() == [1]
    record = labels_record(workspace)
    assert (record.counts["edits"], record.counts["edits_lost"]) == (4, 0)
    now = workspace.the_map().points().collect()
    third = points.filter(pl.col("cluster").is_in([finest[2]["cluster"], finest[3]["cluster"]]))
    where = now.filter(pl.col("row_id").is_in(third["row_id"].implode()))["cluster"].unique()
    assert where.to_list() == merged["cluster"].to_list()
    assert workspace.verify().faults == []

    # The file is not needed any more, and the same import again makes no other map.
    path.unlink()
    assert workspace.run_stages([], until="publish").map == workspace.the_map().record
    # What was edited is in the next file as it was given.
    again = read_entries(workspace.export_labels(tmp_path / "again.yaml"))
    assert Counter(entry.get("merge") for entry in again)["Third & fourth"] == 2
    assert [entry["label"] for entry in again if entry.get("rename") == "First: renamed"] == [finest[0]["label"]]

    workspace.update(frame[1_000:1_050], complete=False)
    grown = workspace.the_map().labels()
    assert {"First: renamed", "Third & fourth", "A coarse one"} <= set(grown["label"])
    assert grown.filter("hidden").height == 1
    with pytest.raises(WorkspaceError, match="has grown by updates since its fit"):
        workspace.import_labels(tmp_path / "again.yaml")

    workspace.update(frame[1_050:], complete=False, refit=True)
    refitted = workspace.the_map().labels()
    assert {"First: renamed", "Third & fourth"} <= set(refitted["label"])
    assert refitted.filter("hidden").height == 1
    record = labels_record(workspace)
    assert record.counts["edits"] + record.counts["edits_lost"] == 4
    assert len([note for note in record.notes if "no longer fits" in note]) == record.counts["edits_lost"]


def test_splits_and_moves_hold_through_an_import_and_a_refit(tmp_path: Path) -> None:
    frame = shuffled(770)
    ls.run(frame[:700], out=tmp_path / "ws", text="text", id="package", cluster=SMALL, **FAST)
    workspace = ls.open(tmp_path / "ws")
    before = workspace.the_map().points().collect()
    entries = read_entries(workspace.export_labels(tmp_path / "edits.yaml"))
    whole, target, source = (entry for entry in entries[:3] if entry["layer"] == 0)
    inside = before.filter(pl.col("cluster") == source["cluster"])["row_id"].to_list()
    whole["split"], target["add"], source["remove"] = 3, inside[:2], inside[2:3]
    gone = ENTRY | {"label": "Gone", "members": [90_000], "split": 2}
    above = [entry for entry in entries if entry["layer"] == 1]
    parents = dict(before.select("cluster", "layer_1").iter_rows())
    target["parent"] = next(e["label"] for e in above if e["cluster"] != parents[target["cluster"]])

    def lies_in_its_parent() -> bool:
        points = workspace.the_map().points().collect().filter(pl.col("cluster") >= 0)
        (there,) = (entry["members"] for entry in above if entry["label"] == target["parent"])
        own, other = (points.filter(pl.col("row_id").is_in(rows))["layer_1"] for rows in (target["members"], there))
        return own.mode().to_list() == other.mode().to_list()

    workspace.import_labels(write_entries(tmp_path / "edits.yaml", [*entries, gone]))

    def clusters_of(rows: list[int]) -> pl.Series:
        points = workspace.the_map().points().collect()
        return points.filter(pl.col("row_id").is_in(rows))["cluster"]

    def cluster_of(rows: list[int]) -> list[int]:
        return clusters_of(rows).unique().to_list()

    documents = before.filter(pl.col("cluster") == whole["cluster"])["row_id"].to_list()
    assert len(cluster_of(documents)) == 3
    assert cluster_of(inside[:2]) == cluster_of([target["members"][0]])
    assert cluster_of(inside[2:3]) == [-1]
    assert lies_in_its_parent()
    record = labels_record(workspace)
    assert (record.counts["edits"], record.counts["edits_lost"]) == (3, 1)
    assert "The edit of 'Gone' (split) no longer fits: 0 of its 1 documents are left." in record.notes
    assert workspace.verify().faults == []

    # A part has an entry of its own, and the split stays in the file.
    entries = read_entries(workspace.export_labels(tmp_path / "again.yaml"))
    assert sorted(entry["split"] for entry in entries if "split" in entry) == [2, 3]
    part = next(entry for entry in entries if entry["layer"] == 0 and set(entry["members"]) <= set(documents))
    part["rename"] = "A part"
    workspace.import_labels(write_entries(tmp_path / "again.yaml", entries))
    assert workspace.the_map().labels().filter(pl.col("label") == "A part")["size"].to_list() == [part["size"]]

    workspace.update(frame, complete=True, refit=True)
    labels = workspace.the_map().labels()
    record = labels_record(workspace)
    assert (record.counts["edits"], record.counts["edits_lost"]) == (4, 1)
    # Some documents are in no cluster now; the others are where they were.
    assert len(set(cluster_of(documents)) - {-1}) >= 3
    there = clusters_of(part["members"]).filter(clusters_of(part["members"]) >= 0)
    (own,) = labels.filter(pl.col("label") == "A part")["cluster"]
    # A new layout may have some documents elsewhere.
    assert (there == own).mean() > 0.8
    assert cluster_of(inside[:2]) == clusters_of(target["members"]).mode().to_list()

    assert lies_in_its_parent(), record.notes

    # Edits after a refit: no point moves, and clusters keep their ids.
    refitted = workspace.the_map().points().collect().sort("row_id")
    entries = read_entries(workspace.export_labels(tmp_path / "last.yaml"))
    next(entry for entry in entries if entry["layer"] == 1)["rename"] = "Renamed after the refit"
    workspace.import_labels(write_entries(tmp_path / "last.yaml", entries))
    after = workspace.the_map()
    columns = ["row_id", "x", "y", "cluster"]
    assert after.points().collect().sort("row_id").select(columns).equals(refitted.select(columns))
    assert "Renamed after the refit" in after.labels()["label"].to_list()


def test_an_edit_of_documents_that_are_gone_is_reported(tmp_path: Path) -> None:
    ls.run(shuffled(400), out=tmp_path / "ws", text="text", id="package", cluster=SMALL, **FAST)
    workspace = ls.open(tmp_path / "ws")
    path = workspace.export_labels(tmp_path / "edits.yaml")
    lost = ENTRY | {"members": [90_000, 90_001], "rename": "Nothing"}
    workspace.import_labels(write_entries(path, [*read_entries(path), lost]))
    record = labels_record(workspace)
    assert (record.counts["edits"], record.counts["edits_lost"]) == (0, 1)
    assert "The edit of 'Games' (rename) no longer fits: 0 of its 2 documents are left." in record.notes
    with pytest.raises(RequestError, match="is there already, with edits perhaps"):
        workspace.export_labels(path)
    # It is kept in the next file, so that it can be mended.
    assert "Nothing" in workspace.export_labels(tmp_path / "next.yaml").read_text()
    # A table means the same, so that the labels are the same.
    before = workspace.the_map().record
    workspace.import_labels(workspace.export_labels(tmp_path / "next.csv"))
    assert workspace.the_map().record == before
    with (tmp_path / "next.csv").open(encoding="utf-8-sig", newline="") as file:
        header, first, *rest = csv.reader(file)
    first[header.index("rename")] = "By a spreadsheet"
    with (tmp_path / "saved.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=";").writerows([header, first, *rest])
    workspace.import_labels(tmp_path / "saved.csv")
    named = workspace.the_map().labels().filter(pl.col("label") == "By a spreadsheet")
    assert named["size"].to_list() == [int(first[header.index("size")])]
    assert labels_record(workspace).counts["edits_lost"] == 1


def test_a_map_without_clusters_has_a_file_of_labels_that_can_be_imported(tmp_path: Path) -> None:
    ls.run(shuffled(3), out=tmp_path / "ws", text="text", id="package", **FAST)
    workspace = ls.open(tmp_path / "ws")
    path = workspace.export_labels(tmp_path / "edits.yaml")
    assert read_entries(path) == []
    assert workspace.import_labels(path).map is not None
    events = "".join(one.read_text() for one in (tmp_path / "ws" / "runs").rglob("events.jsonl"))
    assert "edits.yaml has no edit: labels are as they were found" in events


@pytest.mark.slow
def test_of_a_hundred_random_edits_nearly_all_hold_after_a_refit_with_a_tenth_more(tmp_path: Path) -> None:
    frame = shuffled(8_000)
    first = round(len(frame) / 1.1)
    ls.run(frame[:first], out=tmp_path / "ws", text="text", id="package", progress="quiet", publish={"viewer": False})
    workspace = ls.open(tmp_path / "ws")
    entries = read_entries(workspace.export_labels(tmp_path / "edits.yaml"))
    chosen = random.Random(5).sample(range(len(entries)), 100)
    finest = [at for at in chosen if entries[at]["layer"] == 0]
    for at in chosen:
        entries[at] |= [{"rename": f"Name {at}"}, {"describe": f"About {at}"}, {"hide": True}][at % 3]
    for pair in range(5):
        for at in finest[2 * pair : 2 * pair + 2]:
            entries[at] = {key: entries[at][key] for key in ENTRY} | {"merge": f"Merged {pair}"}
    others = [at for at, entry in enumerate(entries) if entry["layer"] == 0 and at not in chosen]
    for at, other in zip(finest[10:25], others, strict=False):
        plain = {key: entries[at][key] for key in ENTRY}
        change = [{"split": 2}, {"add": entries[other]["members"][:2]}, {"remove": plain["members"][:1]}][at % 3]
        entries[at] = plain | change
    workspace.import_labels(write_entries(tmp_path / "edits.yaml", entries))
    record = labels_record(workspace)
    assert (record.counts["edits"], record.counts["edits_lost"]) == (95, 0)
    workspace.update(frame, complete=True, refit=True)
    record = labels_record(workspace)
    applied, lost = record.counts["edits"], record.counts["edits_lost"]
    assert applied + lost == 95
    assert len([note for note in record.notes if "no longer fits" in note]) == lost
    # Of four orders of the corpus, 376 of 380 hold (decision 0018); of these 95 another number on another machine.
    assert applied >= 93, record.notes
    labels = workspace.the_map().labels()
    names = set(labels["label"])
    assert len({row for at in chosen for row in entries[at].get("add", ())}) > 4
    wanted = {entries[at]["rename"] for at in chosen if "rename" in entries[at]} | {f"Merged {n}" for n in range(5)}
    assert len(wanted - names) <= lost
    # An edited cluster still holds its documents.
    points = workspace.the_map().points().collect()
    of = dict(zip(labels["label"], zip(labels["layer"], labels["cluster"], strict=True), strict=True))
    shares: list[float] = []
    for at in chosen:
        entry = entries[at]
        if entry["layer"] == 0 and entry.get("rename") in of:
            inside = points.filter(pl.col("row_id").is_in(entry["members"]))["cluster"]
            shares.append(float((inside == of[entry["rename"]][1]).mean()))
    assert sum(share > 0.5 for share in shares) >= 0.9 * len(shares)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("text", "does not begin with edits: 1"),
        ({"edits": 2, "clusters": []}, "does not begin with edits: 1"),
        ({"edits": 1}, "no list of clusters"),
        ({"edits": 1, "clusters": [3]}, "an entry is not a mapping"),
        ({"edits": 1, "clusters": [ENTRY | {"renam": "x"}]}, "renam is not an edit"),
        ({"edits": 1, "clusters": [ENTRY | {"members": ["a"]}]}, "members is not a list of row ids"),
        ({"edits": 1, "clusters": [ENTRY | {"members": [2**70]}]}, "members is not a list of row ids"),
        ({"edits": 1, "clusters": [ENTRY | {"rename": ""}]}, "rename is not one line of text"),
        ({"edits": 1, "clusters": [ENTRY | {"rename": "a\nb"}]}, "rename is not one line of text"),
        ({"edits": 1, "clusters": [ENTRY | {"hide": "yes"}]}, "hide is not true or false"),
        ({"edits": 1, "clusters": [ENTRY | {"layer": 1, "merge": "x"}]}, "merge is for clusters of layer 0"),
        ({"edits": 1, "clusters": [ENTRY | {"merge": "x"}]}, "only one cluster has merge: x"),
        ({"edits": 1, "clusters": [ENTRY | {"split": 1}]}, "split is not a number of parts from 2 to 50, or auto"),
        ({"edits": 1, "clusters": [ENTRY | {"split": 3, "rename": "x"}]}, "that is split cannot also have rename"),
        ({"edits": 1, "clusters": [ENTRY | {"layer": 1, "add": [4]}]}, "add is for clusters of layer 0"),
        ({"edits": 1, "clusters": [ENTRY | {"parent": "Play"}]}, "0 clusters of layer 1 in the file are called 'Play'"),
        ({"edits": 1, "clusters": [ENTRY | {"remove": []}]}, "remove is not a list of row ids"),
        ({"edits": 1, "clusters": [ENTRY | {"add": [4]}, ENTRY | {"add": [5, 4]}]}, "document 4 is added twice"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_its_entry(values: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_edits(values, where="edits.yaml")


def test_the_words_of_a_file_are_kept_with_the_run_and_in_no_label(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("library\nLibraries\n", encoding="utf-8")
    frame, settings = shuffled(300), {"stop_words": str(tmp_path / "own.txt"), "ngram_range": [1, 2]}
    ls.run(frame, out=tmp_path / "ws", text="text", cluster=SMALL, label=settings, **FAST)
    (tmp_path / "own.txt").unlink()
    workspace = ls.open(tmp_path / "ws")
    assert workspace.map_settings()["label"]["stop_words"] == ["libraries", "library"]
    words = " ".join(" ".join([row["label"], *row["keyphrases"]]) for row in workspace.the_map().labels().to_dicts())
    assert "librar" not in words.lower()
    assert all(len(phrase.split()) <= 2 for row in workspace.the_map().labels()["keyphrases"] for phrase in row)
    assert workspace.run_stages([], until="publish").map == workspace.the_map().record


def test_a_wrong_file_ends_a_run_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "edits.yaml").write_text("edits: 1\nclusters:\n- layer: 0\n", encoding="utf-8")
    for setting in ({"edits": str(tmp_path / "edits.yaml")}, {"stop_words": str(tmp_path / "none.txt")}):
        with pytest.raises(ConfigError, match=r"label\.(edits|stop_words)"):
            ls.run(shuffled(60), out=tmp_path / "ws", text="text", label=setting, progress="quiet")
    assert not (tmp_path / "ws" / "workspace.json").exists()


def test_the_values_of_a_column_are_not_merged(tmp_path: Path) -> None:
    edits = [ENTRY | {"merge": "x"}, ENTRY | {"merge": "x"}]
    cluster = {"method": "column", "column": "package"}
    with pytest.raises(ConfigError, match=r"label\.edits: merge .* cluster\.method: column"):
        ls.run(
            shuffled(60), out=tmp_path / "ws", text="text", cluster=cluster, label={"edits": edits}, progress="quiet"
        )


def test_entries_without_an_edit_are_left_out() -> None:
    renamed = ENTRY | {"rename": " Board games ", "cluster": 7}
    (edit,) = parse_edits({"edits": 1, "clusters": [ENTRY, renamed]}, where="edits.yaml")
    assert edit == ClusterEdit(layer=0, label="Games", size=20, members=(1, 2, 3), rename="Board games")
    assert edit.as_json() == ENTRY | {"rename": "Board games"}
