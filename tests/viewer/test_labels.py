"""Labels do not overlap at any zoom, and clusters have the hue of their parent."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from latentscale.viewer.labels import HUES, _box, label_entries


def table(n: int, layers: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    rows = []
    for layer in range(layers):
        for c in range(max(1, n // 5**layer)):
            x, y = random.normal(0, 3, 2)
            hull = [x - 1, y - 1, x + 1, y - 1, x, y + 1] if layer else []
            rows.append(
                {
                    "layer": layer,
                    "cluster": c,
                    "label": "words " * int(random.integers(1, 6)),
                    "source": None,
                    "keyphrases": [],
                    "exemplars": [],
                    "parent": min(c // 5, max(1, n // 5 ** (layer + 1)) - 1) if layer < layers - 1 else None,
                    "x": x,
                    "y": y,
                    "hull": hull,
                    "size": int(random.integers(1, 1000)),
                    "nearest_size": 1,
                }
            )
    return pa.Table.from_pylist(rows)


@settings(max_examples=25)
@given(st.integers(1, 120), st.integers(1, 3), st.integers(0, 1000))
def test_no_two_labels_overlap_at_any_zoom(n: int, layers: int, seed: int) -> None:
    entries = [c for c in label_entries(table(n, layers, seed), side=20.0)[0]["clusters"] if c["zoom"]]
    assert entries
    for zoom in np.arange(2, 12, 0.37):
        scale = 2**zoom
        shown = [c for c in entries if c["zoom"][0] <= zoom <= c["zoom"][1]]
        for i, a in enumerate(shown):
            for b in shown[:i]:
                (wa, ha), (wb, hb) = _box(a["label"], a["px"]), _box(b["label"], b["px"])
                apart = abs(a["x"] - b["x"]) * scale >= (wa + wb) / 2 * 0.98
                above = abs(a["y"] - b["y"]) * scale >= (ha + hb) / 2 * 0.98
                assert apart or above, (zoom, a, b)


def test_a_fine_label_that_shows_stays_while_zooming_in() -> None:
    for cluster in label_entries(table(80, 2, 1), side=20.0)[0]["clusters"]:
        if cluster["layer"] == 0 and cluster["zoom"]:
            assert cluster["zoom"][1] > 50


def test_children_have_their_parents_hue_and_shades_of_their_own() -> None:
    found = label_entries(table(100, 2, 2), side=20.0)[0]
    assert found["hue_layer"] == 1
    parents = {c["id"]: c for c in found["clusters"] if c["layer"] == 1}
    assert {c["hue"] for c in parents.values()} == set(range(HUES))
    for parent in parents:
        children = [c for c in found["clusters"] if c["layer"] == 0 and c["parent"] == parent]
        assert {c["hue"] for c in children} <= {parents[parent]["hue"]}
        assert len({c["shade"] for c in children}) == len(children)


def test_labels_list_their_edits() -> None:
    rows = table(4, 1, 0).to_pylist()
    edits = [
        None,
        {"label": "found", "rename": "x"},
        {"label": "words", "hide": True},
        {"label": "a + b", "merge": "x"},
    ]
    for row, edit in zip(rows, edits, strict=True):
        row |= {"label": "words", "hidden": bool(edit and edit.get("hide")), "edit": edit and json.dumps(edit)}
    found = label_entries(pa.Table.from_pylist(rows), side=20.0)[0]["clusters"]
    told = {c["id"]: (c.get("hidden"), c.get("found"), c["zoom"] is None) for c in found}
    assert told == {0: (None, None, False), 1: (None, "found", False), 2: (True, None, True), 3: (None, None, False)}


def test_a_label_without_a_position_is_listed_but_not_drawn() -> None:
    rows = table(3, 1, 0).to_pylist()
    rows[0]["x"] = float("nan")
    clusters = label_entries(pa.Table.from_pylist(rows), side=20.0)[0]["clusters"]
    assert sum(c["zoom"] is None for c in clusters) == 1


def test_a_map_without_clusters_has_no_labels() -> None:
    empty = table(1, 1, 0).slice(0, 0)
    assert label_entries(empty, side=1.0) == ({"layers": 0, "hue_layer": 0, "clusters": []}, [])


def test_labels_of_a_small_layer_above_the_hues_are_not_drawn() -> None:
    found = label_entries(table(100, 3, 4), side=20.0)[0]
    assert (found["layers"], found["hue_layer"]) == (3, 1)
    assert all(c["zoom"] is None for c in found["clusters"] if c["layer"] == 2)
    assert any(c["zoom"] for c in found["clusters"] if c["layer"] == 1)
