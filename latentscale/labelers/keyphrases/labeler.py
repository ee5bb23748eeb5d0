"""Labeler without a model: the label is the suggestion from keyphrases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from latentscale.config import LabelConfig
from latentscale.errors import ConfigError
from latentscale.labelers.protocol import ClusterEvidence, Evidence, Label


class KeyphraseLabeler:
    """Uses the suggestion in the evidence as label; see :class:`latentscale.labelers.protocol.Labeler`."""

    name: ClassVar[str] = "keyphrases"
    needs: ClassVar[frozenset[Evidence]] = frozenset()
    keeps_receipts: ClassVar[bool] = False
    batch = 1_000
    concurrency = 1

    @classmethod
    def check(cls, config: LabelConfig) -> Mapping[str, Any]:
        """Return an empty identity: the settings of keyphrases are part of the request itself."""
        if config.options:
            raise ConfigError(
                f"label.options.{next(iter(config.options))}: the labeler 'keyphrases' has no options",
                hint="Its settings are those of the group label itself.",
            )
        return {}

    @classmethod
    def open(cls, config: LabelConfig, device: str) -> Self:
        """Do nothing: no model is loaded."""
        return cls()

    def label(self, evidence: Sequence[ClusterEvidence]) -> Sequence[Label | None]:
        """Return the suggested keyphrases as labels."""
        return [
            Label(label=cluster.suggestion, source=self.name if cluster.keyphrases else "none", details={})
            for cluster in evidence
        ]
