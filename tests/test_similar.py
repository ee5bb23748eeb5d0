"""Similar documents on the page are those with the nearest vectors, also after updates."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import latentscale
from latentscale.errors import ShapeError
from latentscale.stages.publish.page import generations
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import load_vectors
from latentscale.viewer.similar import ReverseNeighbors, Similar
from latentscale.viewer.similar_files import LEAST_ROWS, REVERSE_ROWS, similar_section

SETTINGS = {"ingest": {"shard_rows": 200}, "cluster": {"min_cluster_size": 15}}
WANTED = 15
# However different the new documents are, no refit is due.
DRIFT = {"added_share": 9, "removed_share": 9, "ood_share": 1, "noise_increase": 1, "cluster_growth": 99}


class Page:
    """What the page reads, in the form of the page: generations, their sections and what has left them."""

    def __init__(self, workspace: latentscale.Workspace) -> None:
        shown = workspace.current
        assert shown is not None
        self._store = workspace.store
        self.entries = generations(shown.record)
        self.folders = [entry["url"].removeprefix("../") for entry in self.entries]
        self.index = [json.loads(self._store.read_bytes(f"{folder}index.json")) for folder in self.folders]
        self.ids: list[dict[int, int]] = []
        self.gone: list[set[int]] = []
        for entry, folder, index in zip(self.entries, self.folders, self.index, strict=True):
            files = [self.read(f"{folder}ids/{k}.parquet") for k in range(len(index["ids"]["first"]))]
            self.ids.append({p: r for f in files for r, p in zip(f["row_id"], f["position"], strict=True)})
            removed = entry.get("removed")
            name = removed and removed["url"].removeprefix("../")
            self.gone.append(set(self.read(name)["position"]) if name else set())

    def read(self, name: str) -> dict[str, list[Any]]:
        return pq.read_table(io.BytesIO(self._store.read_bytes(name))).to_pydict()

    def similar(self, g: int, position: int) -> list[tuple[int, float]]:
        """Row ids and similarities as ``engine/similar-search.ts`` finds them."""
        entry = self.index[g]["sections"]["similar"]
        maps = [folder.split("/")[1] for folder in self.folders]
        lists = self.read(f"{self.folders[g]}sections/similar/lists/{position // entry['rows']}.parquet")
        start = position % entry["rows"] * entry["k"]
        pairs: list[tuple[int, int, int]] = []
        for at in range(start, start + entry["k"]):
            of = lists["of"][at] if "of" in lists else 0
            owner = maps.index(entry["earlier"][of - 1]) if of else g
            pairs.append((lists["similarity"][at], owner, lists["place"][at]))
        for later in range(g + 1, len(self.folders)):
            other = self.index[later]["sections"]["similar"]
            if maps[g] not in other.get("earlier", []) or "back" not in other:
                continue
            of = 1 + other["earlier"].index(maps[g])
            for file in range(len(other["back"]["first"])):
                back = self.read(f"{self.folders[later]}sections/similar/back/{file}.parquet")
                assert [back["of"][0], back["place"][0]] == other["back"]["first"][file]
                for o, place, like, score in zip(
                    *(back[c] for c in ("of", "place", "like", "similarity")), strict=True
                ):
                    if (o, place) == (of, position):
                        pairs.append((score, later, like))
        alive = {(owner, place): score for score, owner, place in pairs if place not in self.gone[owner]}
        best = sorted(alive.items(), key=lambda one: -one[1])[: entry["k"]]
        return [(self.ids[owner][place], score / 255) for (owner, place), score in best]


def check(workspace: latentscale.Workspace, *, every: int) -> tuple[float, list[int]]:
    """The share of the true nearest that documents of the map are given, and how many documents each generation has."""
    shown = workspace.current
    assert shown is not None
    page, store = Page(workspace), workspace.store
    vectors = load_vectors(
        store, read_snapshot(store, str(shown.record.request["snapshot"])), str(shown.record.request["embedding"])
    )
    row = {int(row_id): at for at, row_id in enumerate(vectors.row_ids)}
    scores = vectors.matrix @ vectors.matrix.T
    np.fill_diagonal(scores, -1)
    found = wanted = 0
    counts = []
    for g, ids in enumerate(page.ids):
        alive = [(position, row_id) for position, row_id in sorted(ids.items()) if position not in page.gone[g]]
        counts.append(len(alive))
        for position, row_id in alive[::every]:
            hits = page.similar(g, position)
            assert row_id not in [hit for hit, _ in hits]
            at = row[row_id]
            for hit, similarity in hits:
                assert abs(scores[at, row[hit]] - similarity) < 0.5 / 255 + 1e-5
            least = np.sort(scores[at])[-WANTED]
            found += sum(bool(scores[at, row[hit]] >= least - 1e-6) for hit, _ in hits)
            wanted += WANTED
    assert sum(counts) == len(row)
    return found / wanted, counts


def test_similar_documents_stay_correct_while_the_map_grows(tmp_path: Path, demo: pl.DataFrame) -> None:
    sections = ["games", "perl", "science", "mail", "fonts", "electronics"]
    documents = demo.filter(pl.col("section").is_in(sections)).sort("package").sample(1_000, seed=1, shuffle=True)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    bounds = {"a": (0, 500), "b": (500, 820), "c": (820, 860), "d": (860, 960)}
    write = {name: documents[slice(*at)].write_parquet for name, at in bounds.items()}
    for name in "abc":
        write[name](corpus / f"{name}.parquet")
    latentscale.run(str(corpus), out=tmp_path / "ws", id="package", progress="quiet", **SETTINGS)
    workspace = latentscale.open(tmp_path / "ws")
    share, counts = check(workspace, every=7)
    assert (share, counts) == (1, [860])
    write["d"](corpus / "d.parquet")
    workspace.update(update={"drift": DRIFT})
    share, counts = check(workspace, every=3)
    assert share > 0.965
    assert counts == [860, 100]
    # Some of the fit come again with another text, and an update stands beside the one before.
    changed = documents[820:850].with_columns(text=pl.lit("Chess engines, openings and end games. ") + pl.col("text"))
    pl.concat([documents[960:], changed]).write_parquet(corpus / "e.parquet")
    workspace.update(update={"drift": DRIFT})
    share, counts = check(workspace, every=3)
    assert share > 0.965
    assert counts == [830, 100, 70]


def test_lists_of_similar_documents_are_found_by_position(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    n, k, p = 1_300, 4, 20_000
    positions = random.permutation(n).astype(np.int64)
    places, scores = random.integers(0, n, (n, k)), np.sort(random.random((n, k)).astype(np.float32))[:, ::-1]
    back = ReverseNeighbors(
        generation=random.integers(1, 3, p).astype(np.uint8),
        positions=random.integers(0, 50_000, p),
        rows=random.integers(0, n, p),
        similarity=random.random(p).astype(np.float32),
    )
    similar = Similar(neighbors=places, similarity=scores, earlier=["map-a", "map-b"], reverse=back)
    similar.check(n)
    files: dict[str, bytes] = {}
    entry = similar_section(similar, positions).write(None, files.__setitem__)  # pyright: ignore[reportArgumentType]
    assert entry is not None
    assert (entry["documents"], entry["k"], entry["rows"], entry["earlier"]) == (n, k, LEAST_ROWS, ["map-a", "map-b"])
    read = {name: pq.read_table(io.BytesIO(content)) for name, content in files.items()}
    for row in range(0, n, 13):
        lists = read[f"lists/{positions[row] // LEAST_ROWS}.parquet"].slice(positions[row] % LEAST_ROWS * k, k)
        assert lists["place"].to_pylist() == positions[places[row]].tolist()
        assert np.abs(lists["similarity"].to_numpy() / 255 - scores[row]).max() <= 0.5 / 255 + 1e-6
    pairs = [read[f"back/{file}.parquet"] for file in range(-(-p // REVERSE_ROWS))]
    keys = np.concatenate([np.column_stack([t["of"].to_numpy(), t["place"].to_numpy()]) for t in pairs])
    assert (np.diff(keys[:, 0].astype(np.int64) << 32 | keys[:, 1]) >= 0).all()
    assert entry["back"] == {"rows": REVERSE_ROWS, "first": [keys[i].tolist() for i in range(0, p, REVERSE_ROWS)]}
    assert sorted(np.concatenate([t["like"].to_numpy() for t in pairs])) == sorted(positions[back.rows])


@pytest.mark.parametrize("places", [np.full((3, 2), 3), np.full((3, 2), -1), np.zeros((2, 2))])
def test_neighbours_out_of_range_are_refused(places: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        Similar(neighbors=places.astype(np.int64), similarity=np.zeros((3, 2), np.float32)).check(3)
