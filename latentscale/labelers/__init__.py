"""Labelers: from the evidence of a cluster to its label."""

from __future__ import annotations

from latentscale.errors import ConfigError
from latentscale.labelers.protocol import ClusterEvidence, ColumnShare, Contrast, Label, Labeler, NoLabel, NumberShift
from latentscale.registry import LABELERS

__all__ = ["ClusterEvidence", "ColumnShare", "Contrast", "Label", "Labeler", "NoLabel", "NumberShift", "labeler_class"]


def labeler_class(name: str) -> type[Labeler]:
    """Return the labeler class of that name.

    Raises
    ------
    ConfigError
        If it does not exist.
    """
    if name not in LABELERS:
        raise ConfigError(
            f"there is no labeler {name!r}", where="label.method", hint=f"Use one of {', '.join(LABELERS.names())}."
        )
    return LABELERS.load(name)
