"""Edits that the page of a map saved are put to those that the map has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale as ls
from latentscale.errors import ConfigError, WorkspaceError
from tests.labelers.test_label_edits import FAST, SMALL, labels_record, read_entries, shuffled, write_entries


def page_file(path: Path, map: str, *entries: dict[str, Any]) -> Path:
    """A file as the page writes it."""
    lines = ["# Edits of clusters", "edits: 1", f"map: {json.dumps(map)}", "adds: true", "clusters:"]
    path.write_text("\n".join([*lines, *(f"- {json.dumps(one, ensure_ascii=False)}" for one in entries)]) + "\n")
    return path


def entry_of(workspace: ls.Workspace, row: dict[str, Any], **edits: Any) -> dict[str, Any]:
    """What the page knows of a cluster: exemplars, and no other documents."""
    return {name: row[name] for name in ("layer", "cluster", "label", "size")} | {"members": row["exemplars"]} | edits


def finest(workspace: ls.Workspace) -> list[dict[str, Any]]:
    return workspace.the_map().labels().filter(pl.col("layer") == 0).sort("size", descending=True).to_dicts()


def edits_of(workspace: ls.Workspace) -> list[dict[str, Any]]:
    return [dict(one) for one in labels_record(workspace).request["edits"]]


def test_what_the_page_adds_goes_to_the_edits_that_there_are(tmp_path: Path) -> None:
    frame = shuffled(640)
    ls.run(frame[:600], out=tmp_path / "ws", text="text", id="package", cluster=SMALL, **FAST)
    workspace = ls.open(tmp_path / "ws")
    first = workspace.the_map()
    rows = finest(workspace)
    entries = read_entries(workspace.export_labels(tmp_path / "edits.yaml"))
    by_cluster = {entry["cluster"]: entry for entry in entries if entry["layer"] == 0}
    before = [by_cluster[row["cluster"]] for row in rows]
    before[0]["rename"], before[1]["hide"], before[2]["rename"] = "Kept", True, "Old name"
    before[3]["merge"] = before[4]["merge"] = "Both"
    workspace.import_labels(write_entries(tmp_path / "edits.yaml", entries))

    second = workspace.the_map()
    now = {row["label"]: row for row in finest(workspace)}
    hidden = next(row for row in now.values() if row["hidden"])
    script = "<script>alert(1)</script> & 'quoted' \"name\""
    added = page_file(
        tmp_path / "added.yaml",
        second.id,
        entry_of(workspace, now["Old name"], rename=None, describe="Said on the page."),
        entry_of(workspace, hidden, hide=False),
        entry_of(workspace, now["Both"], rename="One of two", describe="Of both."),
        entry_of(workspace, now[rows[5]["label"]], rename=script),
    )
    workspace.import_labels(added)
    labels = {row["label"]: row for row in finest(workspace)}
    assert "Kept" in labels
    assert labels[rows[2]["label"]]["description"] == "Said on the page."
    assert not any(row["hidden"] for row in labels.values())
    assert labels[script]["size"] == rows[5]["size"]
    assert labels["One of two"]["size"] == rows[3]["size"] + rows[4]["size"]
    assert labels["One of two"]["description"] == "Of both."
    assert labels_record(workspace).counts["edits_lost"] == 0
    # They have the documents that labels export lists, not the exemplars alone.
    (scripted,) = (one for one in edits_of(workspace) if one.get("rename") == script)
    assert scripted["members"] == before[5]["members"]

    # The same file again, which is of an earlier map by now, alters nothing; one of the first map takes nothing away.
    made = workspace.the_map().id
    workspace.import_labels(added)
    assert workspace.the_map().id == made
    late = page_file(tmp_path / "late.yaml", first.id, entry_of(workspace, rows[6], rename="Late"))
    workspace.import_labels(late)
    assert {"Kept", script, "One of two", "Late"} <= {row["label"] for row in finest(workspace)}
    gone = page_file(tmp_path / "gone.yaml", "", entry_of(workspace, rows[7] | {"exemplars": [90_000]}, rename="Gone"))
    workspace.import_labels(gone)
    assert [note for note in labels_record(workspace).notes if "0 of its 1 documents are left" in note]

    # As label.edits of a job it is all that there is.
    alone = workspace.run_stages([f"label.edits={json.dumps(str(late))}"], until="publish")
    assert alone.map is not None
    assert [one["rename"] for one in edits_of(workspace)] == ["Late"]
    assert edits_of(workspace)[0]["members"] == rows[6]["exemplars"]

    workspace.update(frame[600:], complete=False)
    grown = page_file(tmp_path / "grown.yaml", workspace.the_map().id, entry_of(workspace, rows[0], rename="Refitted"))
    with pytest.raises(WorkspaceError, match="has grown by updates") as refused:
        workspace.import_labels(grown)
    assert f"labels import {tmp_path / 'ws'} {grown} --refit" in str(refused.value.hint)
    workspace.import_labels(grown, refit=True)
    assert {one["rename"] for one in edits_of(workspace)} == {"Late", "Refitted"}
    assert "Refitted" in {row["label"] for row in finest(workspace)}
    assert workspace.the_map().points().collect().height == 640
    assert workspace.verify().faults == []


ENTRY = {"layer": 0, "cluster": 1, "label": "Games", "size": 20, "members": [1, 2, 3]}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (ENTRY | {"merge": "All"}, "merge is not added"),
        (ENTRY | {"split": 2}, "split is not added"),
        (ENTRY | {"rename": "two\nlines"}, "one line"),
        ({name: ENTRY[name] for name in ENTRY if name != "cluster"} | {"rename": "x"}, "cluster is not a whole number"),
        (ENTRY | {"members": [], "rename": "x"}, "members is not"),
    ],
)
def test_what_the_page_does_not_write_is_refused_with_its_entry(
    entry: dict[str, Any], said: str, tmp_path: Path
) -> None:
    from latentscale.labelers.edit_file import read_additions

    path = page_file(tmp_path / "added.yaml", "map-1", ENTRY | {"rename": "Fine"}, entry)
    with pytest.raises(ConfigError, match=said) as refused:
        read_additions(str(path))
    assert "clusters[1]" in str(refused.value.where)
    path.write_text(path.read_text().replace("adds: true", "adds: yes please"))
    with pytest.raises(ConfigError, match="adds is not true or false"):
        read_additions(str(path))
