"""Manual edits of labels: stored as a small YAML file, and matched to clusters by their documents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from latentscale.config.text import shown
from latentscale.digest import digest
from latentscale.errors import ConfigError

FORMAT = 1
"""Format version of the file: ``edits: 1``."""

MEMBERS = 24
"""Number of documents listed for a cluster, by which it is matched later."""

ACTIONS = ("rename", "describe", "hide", "pin", "merge", "split", "add", "remove", "parent")

MOVES = ("add", "remove")
"""Edits of single documents."""

ALTERING = ("merge", "pin", "split", *MOVES, "parent")
"""Edits that alter the documents of a cluster; valid only in layer 0."""

AUTO = "auto"
"""Value of ``split`` that chooses the number of parts by silhouette."""

PARENT_MEMBERS = "parent_members"
"""Documents by which the cluster named by ``parent`` is matched if the file has no entry of it."""

FIELDS = ("label", "layer", "cluster", "size", "members", *ACTIONS, PARENT_MEMBERS)
"""Fields of an entry."""

_MAX_CHARACTERS = {"rename": 200, "describe": 2_000, "merge": 200, "parent": 200}
_MAX_PARTS, _MAX_MOVED = 50, 100_000
# Minimum share of the listed documents that must still exist, and of those that must be in any cluster...
_PRESENT, _CLUSTERED = 0.3, 0.25
# ...and minimum share of these in a single cluster.
_IN_ONE_CLUSTER = 0.5
# Minimum share of that cluster that they represent: an edit of a part does not apply to the whole.
_OF_CLUSTER, _OF_OTHER_LAYER = 0.3, 0.5
_HINT = "latentscale labels export WORKSPACE writes such a file; keep its layer, size and members."


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterEdit:
    """The edits of one cluster.

    Attributes
    ----------
    layer : int
    label : str
        Its name when the file was written, for readers and messages.
    size : int
        Its number of documents then.
    members : tuple of int
        ``row_id`` of some of them.
    rename, describe, merge : str or None
        New name; new description; name of the cluster into which all entries with this value are merged.
    hide, pin : bool
        Whether the page omits it; whether later clusterings keep it as one cluster with these documents.
    split : int, "auto" or None
        Number of parts into which it is reclustered.
    add, remove : tuple of int
        ``row_id`` of documents moved into it; of documents removed from it, which are then in no cluster.
    parent : str or None
        Name of its parent cluster in layer 1.
    parent_members : tuple of int
        ``row_id`` of some documents of the parent.
    """

    layer: int
    label: str
    size: int
    members: tuple[int, ...]
    rename: str | None = None
    describe: str | None = None
    merge: str | None = None
    hide: bool = False
    pin: bool = False
    split: int | str | None = None
    add: tuple[int, ...] = ()
    remove: tuple[int, ...] = ()
    parent: str | None = None
    parent_members: tuple[int, ...] = ()

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of the edited fields."""
        return tuple(name for name in ACTIONS if getattr(self, name))

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values, omitting unchanged fields."""
        values = {"layer": self.layer, "label": self.label, "size": self.size, "members": list(self.members)}
        values |= {name: _as_list(getattr(self, name)) for name in self.actions}
        return values | ({PARENT_MEMBERS: list(self.parent_members)} if self.parent else {})

    @property
    def key(self) -> str:
        """Identifier of the parts of a split, stable as long as the edit is unchanged."""
        return digest(self.as_json(), size=8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The cluster to which an edit applies, or why there is none.

    Attributes
    ----------
    layer, cluster : int
        The cluster; -1 if there is none.
    documents : float
        Number of documents of the cluster that the listed ones represent.
    reason : str
        Why it does not apply; empty if it does.
    """

    layer: int = -1
    cluster: int = -1
    documents: float = 0.0
    reason: str = ""


def parse_edits(values: Any, *, where: str, places: Sequence[str] = ()) -> tuple[ClusterEdit, ...]:
    """Validate the content of a file of edits, and return the entries with changes.

    Parameters
    ----------
    values : Any
        Parsed YAML: ``edits: 1`` and a list ``clusters``.
    where : str
        Name of the file, for messages.
    places : sequence of str, optional
        Location of each entry, for messages; by default its position in ``clusters``.

    Raises
    ------
    ConfigError
        With the invalid entry and field.
    """
    if not isinstance(values, dict) or cast("dict[str, Any]", values).get("edits") != FORMAT:
        raise ConfigError(
            f"label.edits: this is not a file of edits: it does not begin with edits: {FORMAT}", where=where, hint=_HINT
        )
    entries = cast("dict[str, Any]", values).get("clusters")
    if not isinstance(entries, list):
        raise ConfigError("label.edits: there is no list of clusters", where=where, hint=_HINT)
    entry_list = cast("list[Any]", entries)
    locations = [f"{where}, {place}" for place in places or [f"clusters[{at}]" for at in range(len(entry_list))]]
    edits = [_parse_entry(entry, place) for entry, place in zip(entry_list, locations, strict=True)]
    edits = [_with_parent(edit, edits, place) for edit, place in zip(edits, locations, strict=True)]
    changed = tuple(edit for edit in edits if edit.actions)
    moved = [row for edit in changed for row in edit.add]
    if len(set(moved)) < len(moved):
        duplicate = next(row for row, count in Counter(moved).items() if count > 1)
        raise ConfigError(
            f"label.edits: the document {duplicate} is added twice", where=where, hint="Add it to one cluster."
        )
    for name in {edit.merge for edit in changed if edit.merge}:
        if sum(edit.merge == name for edit in changed) < 2:
            raise ConfigError(
                f"label.edits: only one cluster has merge: {name}", where=where, hint="Give two or more the same name."
            )
    return changed


def _with_parent(edit: ClusterEdit, edits: Sequence[ClusterEdit], where: str) -> ClusterEdit:
    """Return the edit with the documents of its parent filled in."""
    if edit.parent is None or edit.parent_members:
        return edit
    matching = [other for other in edits if other.layer == 1 and edit.parent in (other.label, other.rename)]
    if len(matching) != 1:
        raise ConfigError(
            f"label.edits: parent: {len(matching)} clusters of layer 1 in the file are called {edit.parent!r}",
            where=where,
            hint="Name one by its label or its rename, and leave its entry in the file.",
        )
    return replace(edit, parent_members=matching[0].members)


def _parse_entry(entry: Any, where: str) -> ClusterEdit:
    if not isinstance(entry, dict):
        raise ConfigError("label.edits: an entry is not a mapping", where=where, hint=_HINT)
    fields = cast("dict[str, Any]", entry)
    unknown = set(fields) - set(FIELDS)
    if unknown:
        raise ConfigError(
            f"label.edits: {', '.join(sorted(map(str, unknown)))} is not an edit",
            where=where,
            hint=f"An entry has {', '.join(ACTIONS)}.",
        )

    def invalid(name: str, expected: str) -> ConfigError:
        return ConfigError(
            f"label.edits: {name} is not {expected} (given: {shown(fields.get(name))})", where=where, hint=_HINT
        )

    for name in ("layer", "size"):
        if not isinstance(fields.get(name), int) or isinstance(fields[name], bool) or fields[name] < 0:
            raise invalid(name, "a whole number")
    for name in ("members", *(name for name in (*MOVES, PARENT_MEMBERS) if name in fields)):
        if not _are_row_ids(fields.get(name)):
            raise invalid(name, f"a list of row ids, {_MAX_MOVED:,} at most")
    for name, limit in _MAX_CHARACTERS.items():
        text = fields.get(name)
        if text is not None and not (
            isinstance(text, str) and text.strip() and len(text) <= limit and text.isprintable()
        ):
            raise invalid(name, f"one line of text of at most {limit} characters")
    for name in ("hide", "pin"):
        if not isinstance(fields.get(name, False), bool):
            raise invalid(name, "true or false")
    split = fields.get("split")
    if split is not None and split != AUTO and not (type(split) is int and 2 <= split <= _MAX_PARTS):
        raise invalid("split", f"a number of parts from 2 to {_MAX_PARTS}, or {AUTO}")
    others = [name for name in ACTIONS if name != "split" and fields.get(name)]
    if split is not None and others:
        raise ConfigError(
            f"label.edits: a cluster that is split cannot also have {others[0]}",
            where=where,
            hint="Import the split; labels export then has an entry for each part.",
        )
    for name in ALTERING:
        if fields.get(name) and fields["layer"] != 0:
            raise ConfigError(
                f"label.edits: {name} is for clusters of layer 0, this one is of layer {fields['layer']}",
                where=where,
                hint="Coarser layers are made of those of layer 0.",
            )
    values: dict[str, Any] = {
        name: value.strip() if isinstance(value, str) else value for name, value in fields.items()
    }
    return ClusterEdit(
        layer=values["layer"],
        label=str(values.get("label", "")),
        size=values["size"],
        members=tuple(cast("list[int]", fields["members"])),
        **{name: _as_tuple(values[name]) for name in (*ACTIONS, PARENT_MEMBERS) if values.get(name)},
    )


def _are_row_ids(value: Any) -> bool:
    """Whether the value is a non-empty list of row ids."""
    if not isinstance(value, list) or not 0 < len(cast("list[Any]", value)) <= _MAX_MOVED:
        return False
    return all(type(row) is int and 0 <= row < 2**63 for row in cast("list[Any]", value))


def _as_tuple(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def _as_list(value: Any) -> Any:
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value


def render_edits(clusters: Iterable[Mapping[str, Any]], *, about: Mapping[str, str]) -> str:
    """Write a file of edits with an entry for each cluster, to be edited by hand.

    Parameters
    ----------
    clusters : iterable of mapping
        ``layer``, ``cluster``, ``label``, ``size``, ``members``, and existing edits.
    about : mapping of str to str
        Additional fields of the header.
    """
    lines = [
        "# Add to a cluster, below its members:",
        "#   rename: a new name            describe: a sentence on it",
        "#   hide: true                    draw no label of it",
        "#   merge: a name                 one cluster of all that have the same one here (layer 0)",
        "#   pin: true                     keep it one cluster, whatever a refit finds (layer 0)",
        "#   split: 3                      cluster its documents anew, into three parts or split: auto (layer 0)",
        "#   add: [row ids]                move these documents into it (layer 0)",
        "#   remove: [row ids]             take these documents out of it; they are in no cluster then (layer 0)",
        "#   parent: a name                put it into the cluster of layer 1 that is called so here (layer 0)",
        "# Then: latentscale labels import WORKSPACE FILE. Entries without an edit may be deleted; leave other fields.",
        f"edits: {FORMAT}",
        *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in about.items()),
    ]
    entries = list(clusters)
    # An empty list remains a list, so that the file can be imported.
    lines.append("clusters:" if entries else "clusters: []")
    for cluster in entries:
        lines.append(f"- label: {json.dumps(cluster['label'], ensure_ascii=False)}")
        lines += [f"  {name}: {cluster[name]}" for name in ("layer", "cluster", "size") if name in cluster]
        lines.append(f"  members: [{', '.join(map(str, cluster['members']))}]")
        edited = [name for name in (*ACTIONS, PARENT_MEMBERS) if cluster.get(name)]
        lines += [f"  {name}: {json.dumps(_as_list(cluster[name]), ensure_ascii=False)}" for name in edited]
    return "\n".join(lines) + "\n"


def choose_members(row_ids: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]) -> list[int]:
    """Choose the documents by which a cluster is matched later: evenly among the half with higher probability."""
    # Ties are broken pseudo-randomly, not by position: a corpus may be sorted by topic.
    shuffled = row_ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    order = np.lexsort((shuffled, -probabilities))
    most_probable = order[: max(MEMBERS, len(order) // 2)]
    picks = np.unique(np.linspace(0, len(most_probable) - 1, min(MEMBERS, len(most_probable))).round().astype(np.int64))
    return sorted(row_ids[most_probable[picks]].tolist())


def match_edits(
    edits: Sequence[ClusterEdit],
    row_ids: NDArray[np.int64],
    memberships: Sequence[NDArray[np.int32]],
    *,
    parts: bool = False,
) -> list[Match]:
    """Match edits to clusters: the cluster of its layer, else of another, that has most of the listed documents now.

    Parameters
    ----------
    edits : sequence of ClusterEdit
    row_ids : int64 ndarray, shape (n,)
    memberships : sequence of int32 ndarray, shape (n,)
        Cluster of each document, by layer, finest first; -1 for none.
    parts : bool
        Whether an edited cluster may be a small part of the matching one.

    Returns
    -------
    list of Match
        One for each edit.
    """
    order = np.argsort(row_ids, kind="stable")
    ordered = row_ids[order]
    sizes = [np.bincount(clusters[clusters >= 0], minlength=1) for clusters in memberships]
    matches: list[Match] = []
    for edit in edits:
        listed = np.array(edit.members, dtype=np.int64)
        indices = np.minimum(np.searchsorted(ordered, listed), max(len(ordered) - 1, 0))
        present = order[indices[ordered[indices] == listed]] if len(ordered) else np.empty(0, np.int64)
        if len(present) < max(1.0, _PRESENT * len(listed)):
            matches.append(Match(reason=f"{len(present)} of its {len(listed)} documents are left"))
            continue
        layers = sorted(
            range(len(memberships)), key=lambda layer, edit_layer=edit.layer: (abs(layer - edit_layer), layer)
        )
        attempts = [_match_in_layer(edit, layer, present, memberships[layer], sizes[layer], parts) for layer in layers]
        matches.append(next((match for match in attempts if not match.reason), attempts[0]))
    return matches


def _match_in_layer(
    edit: ClusterEdit,
    layer: int,
    present: NDArray[np.int64],
    membership: NDArray[np.int32],
    sizes: NDArray[np.int64],
    parts: bool,
) -> Match:
    clusters = membership[present]
    clusters = clusters[clusters >= 0]
    if len(clusters) < max(1.0, _CLUSTERED * len(present)):
        return Match(reason=f"{len(present) - len(clusters)} of its {len(present)} documents are in no cluster now")
    counts = np.bincount(clusters)
    cluster = int(counts.argmax())
    if counts[cluster] < _IN_ONE_CLUSTER * len(clusters):
        return Match(reason=f"its documents are in {np.count_nonzero(counts)} clusters now, in none the most of them")
    documents = edit.size * float(counts[cluster]) / len(present)
    min_share = _OF_CLUSTER if layer == edit.layer else _OF_OTHER_LAYER
    if not parts and documents < min_share * sizes[cluster]:
        return Match(reason=f"its documents are a small part of a cluster of {sizes[cluster]:,} now")
    return Match(layer=layer, cluster=cluster, documents=documents)
