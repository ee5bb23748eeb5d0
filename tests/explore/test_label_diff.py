"""Two labellings side by side: every change of a cluster has its row, with the documents that both sides have."""

from __future__ import annotations

import numpy as np

from latentscale.explore.label_diff import Labelling, layer_rows


def labelling(clusters: str, names: str) -> Labelling:
    """A letter for each document, ``.`` for noise; the names of the clusters by their letters."""
    members = np.array([ord(one) - ord("a") if one != "." else -1 for one in clusters], np.int32)
    labels = {(0, ord(one) - ord("a")): (one.upper(), "keyphrases") for one in names}
    return Labelling(row_ids=np.arange(len(members), dtype=np.int64), layers={0: members}, labels=labels)


def test_every_change_has_its_row() -> None:
    # a is split, b, c and f are merged, d loses a part, e goes, k comes.
    before = labelling("aaaaaaaaaaaabbbbbccccddddddddee.fff", "abcdef")
    after = labelling("gggghhhhiiiicccccccccdddddjjj..kccc", "cdghijk")
    rows = layer_rows(0, before, after, before.layers[0], after.layers[0])
    found = [
        (row["change"], row["label_before"], row["label_after"], row["size_before"], row["size_after"], row["shared"])
        for row in rows
    ]
    assert found == [
        ("split", "A", "I", 12, 4, 4),
        ("split", "A", "H", 12, 4, 4),
        ("split", "A", "G", 12, 4, 4),
        ("same", "D", "D", 8, 5, 5),
        ("split", "D", "J", 8, 3, 3),
        ("merged", "B", "C", 5, 12, 5),
        ("merged", "C", "C", 4, 12, 4),
        ("merged", "F", "C", 3, 12, 3),
        ("dissolved", "E", None, 2, None, 0),
        ("new", None, "K", None, 1, 0),
    ]
    assert [row["overlap"] for row in rows[2:5]] == [round(4 / 12, 4), 5 / 8, 3 / 8]


def test_a_changed_name_is_reported() -> None:
    before, after = labelling("aaab", "ab"), labelling("xxxb", "xb")
    rows = layer_rows(0, before, after, before.layers[0], after.layers[0])
    assert [(row["change"], row["label_before"], row["label_after"]) for row in rows] == [
        ("renamed", "A", "X"),
        ("same", "B", "B"),
    ]
