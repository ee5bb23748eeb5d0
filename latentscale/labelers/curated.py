"""The labeler that uses curated names, from a file or from a column of the corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from latentscale.config import LabelConfig, Settings
from latentscale.errors import ConfigError
from latentscale.labelers.checks import MAX_CHARACTERS
from latentscale.labelers.edit_file import read_edits
from latentscale.labelers.edits import ClusterEdit, match_edits
from latentscale.labelers.options import WHERE, read_options
from latentscale.labelers.protocol import ClusterEvidence, Evidence, Label, NoLabel

_NAMING = {"rename", "describe"}


class CuratedOptions(Settings):
    """Source of the names."""

    file: str | tuple[Mapping[str, Any], ...] | None = None
    """A file with names, as `latentscale labels export` writes it, or its entries: `rename`, and `describe` with it."""
    column: str | None = None
    """A trusted column: a cluster is named by the value that most of its documents have."""
    purity: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Minimum share of the documents of a cluster that must have that value."""


class CuratedLabeler:
    """Uses names of a file, else values of a column; see :class:`latentscale.labelers.protocol.Labeler`."""

    name: ClassVar[str] = "curated"
    needs: ClassVar[frozenset[Evidence]] = frozenset({"members", "majority"})
    keeps_receipts: ClassVar[bool] = False
    # All clusters in one batch, since a name is assigned to the cluster with most of its documents.
    batch = 10_000_000
    concurrency = 1

    def __init__(self, names: Sequence[ClusterEdit], options: CuratedOptions) -> None:
        self._names = names
        self._options = options
        self.notes: list[str] = []

    @classmethod
    def check(cls, config: LabelConfig) -> Mapping[str, Any]:
        """Read the file of names; the options are part of the request themselves."""
        _open(config)
        return {"version": 1}

    @classmethod
    def open(cls, config: LabelConfig, device: str) -> Self:
        """Read the names and options."""
        return cls(*_open(config))

    def label(self, evidence: Sequence[ClusterEvidence]) -> Sequence[Label | NoLabel]:
        """Name each cluster by the file, else by the column, else return the reason why neither does."""
        edits = self._by_file(evidence)
        return [self._label(cluster, edits.get((cluster.layer, cluster.cluster))) for cluster in evidence]

    def _label(self, evidence: ClusterEvidence, edit: ClusterEdit | None) -> Label | NoLabel:
        if edit is not None:
            return Label(label=str(edit.rename), source=self.name, description=edit.describe or "")
        if self._options.column is None:
            return NoLabel(reason="no name of the file fits it", final=True)
        column, majority = self._options.column, evidence.majority
        if majority is None:
            return NoLabel(reason=f"none of its documents has a value of {column!r}", final=True)
        if majority.share < self._options.purity:
            reason = f"no value of {column!r} is that of {self._options.purity:.0%} of its documents"
            return NoLabel(
                reason=f"{reason}: {majority.value[:MAX_CHARACTERS]!r} is of {majority.share:.0%}", final=True
            )
        value = " ".join(majority.value.split())
        if not value or not value.isprintable() or len(value) > MAX_CHARACTERS:
            reason = f"its value of {column!r} is not one line of at most {MAX_CHARACTERS} characters"
            return NoLabel(reason=reason, final=True)
        return Label(label=value, source=self.name, confidence=majority.share)

    def _by_file(self, evidence: Sequence[ClusterEvidence]) -> dict[tuple[int, int], ClusterEdit]:
        """Return the edit of each matched cluster by (layer, cluster); of several, that with the most documents."""
        edit_of: dict[tuple[int, int], ClusterEdit] = {}
        matches = match_edits(self._names, *_memberships(evidence)) if self._names and evidence else []
        order = sorted(range(len(matches)), key=lambda index: -matches[index].documents)
        for index in order:
            edit, match = self._names[index], matches[index]
            first = None if match.reason else edit_of.setdefault((match.layer, match.cluster), edit)
            if first is None:
                self.notes.append(f"The name {edit.rename!r} of the file fits no cluster.")
            elif first is not edit:
                self.notes.append(
                    f"The name {edit.rename!r} of the file is for the cluster that {first.rename!r} is of."
                )
        return edit_of


def _open(config: LabelConfig) -> tuple[tuple[ClusterEdit, ...], CuratedOptions]:
    options = read_options(config, CuratedOptions)
    if options.file is None and options.column is None:
        raise ConfigError(
            f"label.method=curated: neither {WHERE}.file nor {WHERE}.column is given",
            hint="Name a file with names (latentscale labels export writes one), or a column of the corpus.",
        )
    try:
        names = read_edits(options.file)
    except ConfigError as error:
        message = error.message.replace("label.edits", f"{WHERE}.file", 1)
        raise ConfigError(message, where=error.where, hint=error.hint) from None
    for edit in names:
        other_actions = [action for action in edit.actions if action not in _NAMING]
        if other_actions or not edit.rename:
            problem = f"{other_actions[0]} is no name" if other_actions else "it has a description, and no rename"
            raise ConfigError(
                f"{WHERE}.file: {edit.label!r}: {problem}", hint="What else is edited by hand is for label.edits."
            )
    return names, options


def _memberships(evidence: Sequence[ClusterEvidence]) -> tuple[NDArray[np.int64], list[NDArray[np.int32]]]:
    """Return the ascending ``row_id`` of all clustered documents, and for each layer their cluster (-1 for none)."""
    row_ids = np.unique(np.concatenate([cluster.members for cluster in evidence]))
    layers = [np.full(len(row_ids), -1, np.int32) for _ in range(1 + max(cluster.layer for cluster in evidence))]
    for cluster in evidence:
        layers[cluster.layer][np.searchsorted(row_ids, cluster.members)] = cluster.cluster
    return row_ids, layers
