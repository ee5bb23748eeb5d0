"""What docs/extend.md says, done: a package of somebody else adds one of each kind, used by command line and SDK."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    subjects = ("the river boat", "a mountain path", "old castle wall", "green garden tool", "night train line")
    rows = [
        {"text": f"{subjects[i % 5]} number {i} with {subjects[i % 5]} again", "kind": subjects[i % 5]}
        for i in range(300)
    ]
    path = tmp_path_factory.mktemp("corpus") / "notes.parquet"
    pl.DataFrame(rows).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def made(outside: Any, corpus: Path) -> Path:
    """A map made with all four by the command line."""
    out = outside.folder / "map"
    done = outside.python(
        *("-m", "latentscale"),
        "run",
        str(corpus),
        "--text",
        "text",
        "--out",
        str(out),
        "--progress",
        "quiet",
        *("--set", "embed.model=hashing", "--set", "embed.options.width=48"),
        *("--set", "neighbors.backend=brute"),
        *("--set", "label.method=headline", "--set", "label.options.words=3"),
        *("--set", "cluster.min_cluster_size=20"),
    )
    assert done.returncode == 0, done.stderr
    assert "pairs" in done.stdout
    return out


def records(out: Path, kind: str) -> list[dict[str, Any]]:
    name = "map.json" if kind == "maps" else "artifact.json"
    return [json.loads(path.read_text()) for path in sorted((out / kind).glob(f"*/{name}"))]


def test_an_embedder_from_outside_makes_the_vectors(made: Path) -> None:
    (record,) = records(made, "embeddings")
    assert record["request"]["model"] == {"embedder": "hashing", "version": 1, "width": 48}
    assert record["counts"]["dim"] == 48


def test_a_backend_from_outside_makes_the_graph_and_says_so(made: Path) -> None:
    (graph,) = records(made, "neighbors")
    assert graph["request"]["backend"] == graph["choices"]["backend"] == "brute"
    (run,) = (json.loads(path.read_text()) for path in (made / "runs").glob("*/run.json"))
    chosen = {one["stage"]: one for one in run["facts"]["backends"]}
    assert chosen["neighbors"] == {"stage": "neighbors", "backend": "brute", "reason": "asked for"}
    assert chosen["project"]["backend"] == "cpu"


def test_a_labeler_from_outside_names_the_clusters_and_leaves_receipts(outside: Any, made: Path) -> None:
    (labels,) = records(made, "labels")
    receipts = list((made / "label-receipts").rglob("*.json"))
    assert labels["counts"]["asked"] == labels["counts"]["labels"] >= 5
    assert 0 < len(receipts) <= labels["counts"]["labels"]
    # Other clusters of the same documents: those that are as they were are not asked for again.
    again = outside.command("cluster", str(made), "--set", "cluster.min_cluster_size=21", "--progress", "quiet")
    assert again.returncode == 0, again.stderr
    done = outside.command("publish", str(made), "--set", "cluster.min_cluster_size=21", "--progress", "quiet")
    assert done.returncode == 0, done.stderr
    newest = max(records(made, "labels"), key=lambda record: record["run"])
    assert newest["id"] != labels["id"]
    assert newest["counts"]["asked"] < newest["counts"]["labels"]


def test_a_stage_from_outside_has_a_command_settings_and_artifacts(outside: Any, made: Path) -> None:
    assert "List the pairs of documents that are nearly the same." in outside.command("--help").stdout
    (first,) = records(made, "pairs")
    assert first["request"] == {"version": 1, "neighbors": first["request"]["neighbors"], "distance": 0.05}
    done = outside.command("pairs", str(made), "--set", "pairs.distance=0.5", "--progress", "quiet")
    assert done.returncode == 0, done.stderr
    second = max(records(made, "pairs"), key=lambda record: record["run"])
    assert second["counts"]["pairs"] > first["counts"]["pairs"]
    wrong = outside.command("pairs", str(made), "--set", "pairs.distanse=0.5")
    assert wrong.returncode == 2
    assert "Did you mean 'distance'?" in wrong.stderr


def test_upkeep_and_inspection_know_the_new_kind(outside: Any, made: Path) -> None:
    assert "pairs-" in outside.command("list", str(made)).stdout
    verified = outside.command("verify", str(made))
    assert verified.returncode == 0, verified.stdout
    part = next((made / "pairs").rglob("pairs-*.parquet"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    try:
        damaged = outside.command("verify", str(made))
        assert damaged.returncode == 4
        assert part.name in damaged.stdout
    finally:
        part.write_bytes(whole)
    assert "pairs" in outside.command("plan", "demo").stdout


@pytest.fixture(scope="module")
def two_maps(outside: Any, made: Path) -> Path:
    """Two maps of two graphs, each with its near copies, all of them a month old."""
    out = outside.folder / "two"
    shutil.copytree(made, out)
    done = outside.command("publish", str(out), "--set", "neighbors.k=30", "--progress", "quiet")
    assert done.returncode == 0, done.stderr
    graphs = {record["id"] for record in records(out, "neighbors")}
    assert len(graphs) == 2
    assert {record["request"]["neighbors"] for record in records(out, "pairs")} == graphs
    for path in out.rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - 30 * 86_400
            os.utime(path, (moment, moment))
    return out


def test_gc_keeps_artifacts_without_a_map_and_their_parents(outside: Any, two_maps: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(two_maps, tmp_path / "map"))
    kept = {record["id"] for kind in ("pairs", "neighbors") for record in records(out, kind)}
    stray = next((out / "pairs").glob("*/pairs-*.parquet")).with_name("pairs-00007.01234567.parquet")
    unrecorded = out / "pairs" / "pairs-0123456789abcdef" / stray.name
    unrecorded.parent.mkdir()
    for path in (stray, unrecorded):
        path.write_bytes(b"PAR1")
        os.utime(path, (0, 0))
    done = outside.command("gc", str(out), "--keep-maps", "1", "--delete", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["kinds"]["unlisted-part"]["objects"] == document["kinds"]["unrecorded-part"]["objects"] == 1
    assert not stray.exists()
    assert not unrecorded.exists()
    assert {identity.partition("-")[0] for identity in document["dropped"]} == {
        "map",
        "labels",
        "clusters",
        "projection",
    }
    assert kept == {record["id"] for kind in ("pairs", "neighbors") for record in records(out, kind)}
    # The receipts of the labels that are left are too.
    assert list((out / "label-receipts").rglob("*.json"))
    verified = outside.command("verify", str(out))
    assert verified.returncode == 0, verified.stdout


def test_a_missing_parent_of_an_artifact_from_outside_is_a_fault(outside: Any, two_maps: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(two_maps, tmp_path / "map"))
    graph = records(out, "neighbors")[0]["id"]
    shutil.rmtree(out / "neighbors" / graph)
    verified = json.loads(outside.command("verify", str(out), "--json").stdout)
    faults = [fault for fault in verified["faults"] if fault["object"].startswith("pairs/")]
    made_of_it = [record for record in records(out, "pairs") if record["request"]["neighbors"] == graph]
    assert len(faults) == len(made_of_it) > 0
    assert all(graph in fault["problem"] for fault in faults)


def test_without_the_package_its_artifacts_are_not_checked_and_keep_what_they_need(two_maps: Path) -> None:
    from latentscale.storage.objects import Store
    from latentscale.upkeep.gc import find_garbage
    from latentscale.upkeep.verify import verify_workspace

    store = Store(str(two_maps))
    found = find_garbage(store, keep_maps=1)
    assert {identity.partition("-")[0] for identity in found.dropped} == {"map", "labels", "clusters", "projection"}
    assert not [item for item in found.garbage if item.info.name.startswith(("pairs/", "neighbors/"))]
    report = verify_workspace(store)
    assert report.faults == []
    number = len(records(two_maps, "pairs"))
    assert report.notes == [
        f"pairs/ holds {number} artifacts of a stage that is not installed here; they are not checked."
    ]


def test_the_sdk_uses_all_four(outside: Any, corpus: Path) -> None:
    program = f"""
import latentscale
made = latentscale.run(
    {str(corpus)!r}, out="sdk", text="text", progress="quiet",
    embed={{"model": "hashing"}}, neighbors={{"backend": "brute"}}, label={{"method": "headline"}},
    pairs={{"distance": 0.1}}, cluster={{"min_cluster_size": 20}},
)
ws = latentscale.open("sdk")
print(sorted({{record.kind for record in ws.artifacts}}))
print(made.search("castle wall", k=1)[0].text)
print(made.labels()["source"].unique().to_list())
again = ws.map(cluster={{"method": "kmeans", "n_clusters": 5}})
embeddings = [record for record in ws.artifacts if record.kind == "embedding"]
print(embeddings[0].counts["rows"], len(embeddings))
"""
    done = outside.python("-c", program)
    assert done.returncode == 0, done.stderr
    kinds, text, sources, rows = done.stdout.splitlines()
    assert "pairs" in kinds
    assert "castle wall" in text
    assert "headline" in sources
    assert rows == "300 1"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("embed.model=hashin", "Did you mean 'hashing'?"),
        ("embed.options.depth=3", "embed.options.depth"),
        ("neighbors.backend=brutal", "there is no backend 'brutal'"),
        ("project.backend=brute", "does not compute the stage project"),
        ("label.method=headlines", "there is no labeler 'headlines'"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_is_written(
    outside: Any, corpus: Path, setting: str, told: str, tmp_path: Path
) -> None:
    options = ["--set", "embed.model=hashing"] if "options" in setting else []
    done = outside.command(
        "run", str(corpus), "--text", "text", "--out", str(tmp_path / "map"), *options, "--set", setting
    )
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert not (tmp_path / "map").exists()


def test_without_the_package_its_map_says_what_is_missing(made: Path, tmp_path: Path) -> None:
    import latentscale
    from latentscale.errors import DamagedObjectError

    shutil.copytree(made, tmp_path / "map")
    current = latentscale.open(tmp_path / "map").current
    assert current is not None
    assert len(current.points().collect()) == 300
    with pytest.raises(DamagedObjectError, match="'hashing', which is not installed"):
        current.search("castle")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('after="neighbors"', 'after="neighbours"'), "runs after 'neighbours', which does not exist"),
        (('kind="pairs"', 'kind="labels"'), "has the name or the kind of another stage"),
        (("PAIRS = StageEntry(", "PAIRS = dict("), "is a dict, not a StageEntry"),
        (("from latentscale.registry", "from latentscale.registri"), "cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_stage_that_does_not_fit_is_named_by_every_command(
    outside: Any, change: tuple[str, str], told: str, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(outside.folder / "acme_maps", tmp_path / "acme_maps")
    shutil.copytree(next(outside.folder.glob("*.dist-info")), tmp_path / "acme_maps-1.0.dist-info")
    entries = tmp_path / "acme_maps" / "entries.py"
    entries.write_text(entries.read_text().replace(*change))
    done = type(outside)(tmp_path).python("-m", "latentscale", "doctor")
    assert done.returncode == 2, done.stderr
    assert f"the stage 'pairs' of the package acme-maps {told}" in done.stderr
    assert "acme_maps.entries:PAIRS" in done.stderr
