"""Apply manual edits to the labels of a map, and report those that no longer match."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latentscale.labelers.edits import ACTIONS, MOVES, PARENT_MEMBERS, ClusterEdit, Match, match_edits
from latentscale.stages.cluster import Clusters
from latentscale.stages.split_clusters import was_split
from latentscale.storage.artifacts import Record

SOURCE = "edited"
"""``source`` of a label that a person gave."""

_MOST_NOTES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class EditReport:
    """Result of applying edits.

    Attributes
    ----------
    applied, lost : int
    notes : list of str
        One sentence for each lost edit.
    """

    applied: int
    lost: int
    notes: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """Return counts for the record; empty without edits."""
        return {"edits": self.applied, "edits_lost": self.lost} if self.applied or self.lost else {}


def apply_edits(
    rows: Sequence[dict[str, Any]], found: Clusters, edits: Sequence[ClusterEdit], clusters: Record
) -> EditReport:
    """Apply edits to the rows of the labels, in place.

    Sets ``label``, ``description`` and ``hidden``; ``edit`` stores the change and the original label as JSON. Splits,
    merges and moves of documents were applied when the clusters were computed.

    Parameters
    ----------
    found : Clusters
    clusters : Record
        Record of these clusters.
    """
    wanted = _merged([edit for edit in edits if not edit.split])
    matches = match_edits(wanted, found.row_ids, found.memberships())
    by_place = {(row["layer"], row["cluster"]): row for row in rows}
    held: dict[tuple[int, int, str], ClusterEdit] = {}
    splits = [edit for edit in edits if edit.split]
    lost = [_lost(edit, _why_whole(edit, found)) for edit in splits if not was_split(edit, clusters)]
    applied = len(splits) - len(lost)
    partly: list[str] = []
    # If two edits match one cluster, the one with the larger overlap applies.
    for edit, match in sorted(zip(wanted, matches, strict=True), key=lambda one: -one[1].documents):
        reason = _reason(edit, match, by_place, held)
        unmoved = {} if reason else _unmoved(edit, match, found)
        if not reason and unmoved and not set(edit.actions) - set(unmoved):
            reason = "; ".join(unmoved.values())
        if reason:
            lost.append(_lost(edit, reason))
            continue
        applied += 1
        partly += [f"Of the edit of {edit.label!r}, {name} no longer fits: {why}." for name, why in unmoved.items()]
        for action in edit.actions:
            held[match.layer, match.cluster, action] = edit
        _change(by_place[match.layer, match.cluster], edit)
    notes = lost[:_MOST_NOTES]
    if len(lost) > _MOST_NOTES:
        notes.append(f"{len(lost) - _MOST_NOTES:,} more edits no longer fit.")
    return EditReport(applied=applied, lost=len(lost), notes=[*notes, *partly[:_MOST_NOTES]])


def _lost(edit: ClusterEdit, reason: str) -> str:
    return f"The edit of {edit.label!r} ({', '.join(edit.actions)}) no longer fits: {reason}."


def _why_whole(edit: ClusterEdit, found: Clusters) -> str:
    """Explain why a cluster could not be split."""
    match = match_edits([edit], found.row_ids, [found.cluster], parts=True)[0]
    return match.reason or "its documents are too few, or too much alike, to be told apart"


def _unmoved(edit: ClusterEdit, match: Match, found: Clusters) -> dict[str, str]:
    """List the moves of an edit that had no effect, with the reason."""
    reasons: dict[str, str] = {}
    for name in MOVES:
        wanted = getattr(edit, name)
        if not wanted:
            continue
        here = found.cluster[np.isin(found.row_ids, wanted)]
        if not len(here):
            reasons[name] = f"none of its {len(wanted):,} documents is left"
        elif match.layer != 0 or ((here == match.cluster) != (name == "add")).all():
            reasons[name] = "its cluster is not found in layer 0"
    if edit.parent:
        coarser = found.memberships()[1:2]
        wanted = replace(edit, layer=0, members=edit.parent_members, size=len(edit.parent_members))
        parent = match_edits([wanted], found.row_ids, coarser, parts=True)[0] if coarser else None
        if parent is None:
            reasons["parent"] = "there is no coarser layer"
        elif parent.reason:
            reasons["parent"] = f"of {edit.parent!r}, {parent.reason}"
        elif match.layer != 0 or found.coarser()[0][match.cluster] != parent.cluster:
            reasons["parent"] = "its cluster is not found in layer 0"
    return reasons


def _merged(edits: Sequence[ClusterEdit]) -> list[ClusterEdit]:
    """Combine the edits of each ``merge`` into one: their clusters are already merged."""
    groups: dict[str, list[ClusterEdit]] = {}
    for edit in edits:
        if edit.merge:
            groups.setdefault(edit.merge, []).append(edit)
    rest = [edit for edit in edits if not edit.merge]
    for group in groups.values():
        largest = max(group, key=lambda edit: edit.size)
        rest.append(
            replace(
                largest,
                size=sum(edit.size for edit in group),
                members=tuple(row for edit in group for row in edit.members),
                label=" + ".join(edit.label for edit in group),
                describe=next((edit.describe for edit in group if edit.describe), None),
                hide=any(edit.hide for edit in group),
                add=tuple(row for edit in group for row in edit.add),
                remove=tuple(row for edit in group for row in edit.remove),
                parent=next((edit.parent for edit in group if edit.parent), None),
                parent_members=next((edit.parent_members for edit in group if edit.parent), ()),
            )
        )
    return rest


def _reason(
    edit: ClusterEdit,
    match: Match,
    rows: Mapping[tuple[int, int], dict[str, Any]],
    held: Mapping[tuple[int, int, str], ClusterEdit],
) -> str:
    if match.reason:
        return match.reason
    if (match.layer, match.cluster) not in rows:
        return "its cluster has no label"
    for action in edit.actions:
        other = held.get((match.layer, match.cluster, action))
        if other is not None:
            return f"its cluster is one with that of {other.label!r} now, which has the same kind of edit"
    return ""


def _change(row: dict[str, Any], edit: ClusterEdit) -> None:
    before: dict[str, Any] = json.loads(row["edit"]) if row.get("edit") else {"label": row["label"]}
    name = edit.rename or edit.merge
    if name:
        row |= {"label": name, "source": SOURCE}
    if edit.describe:
        row["description"] = edit.describe
    if edit.hide:
        row["hidden"] = True
    # The label may have changed since the file was written; the key identifies the edit.
    before["keys"] = [*before.get("keys", ()), edit.key]
    done = {name: value for name, value in edit.as_json().items() if name in (*ACTIONS, PARENT_MEMBERS)}
    row["edit"] = json.dumps(before | done, ensure_ascii=False)
