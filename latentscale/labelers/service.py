"""The protocol of labelers that are a service: what they cost, and how their answers are looked at again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeGuard

from latentscale.config import LabelConfig
from latentscale.labelers.protocol import ClusterEvidence, Label, Labeler, NoLabel
from latentscale.services.terms import ServiceTerms, Spending, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What labels will cost, about.

    Attributes
    ----------
    clusters, prompts : int
        Clusters of all layers, and requests: some are asked about twice.
    usage : Usage
        Tokens of requests and answers.
    cost : float or None
        In the currency of the prices; None where none is given.
    minutes : float
    """

    clusters: int
    prompts: int
    usage: Usage
    cost: float | None
    minutes: float


class ServiceLabeler(Labeler, Protocol):
    """A labeler that is asked over a network, and whose labels are looked at again.

    Attributes
    ----------
    is_service : bool
        True: by this the stage knows it.
    transport : frozenset of str
        Options that alter how it is asked and not what it answers: no part of the labels' identity.
    notes : list of str
        What a person should know of how the service was asked; for the record.
    """

    is_service: ClassVar[bool]
    transport: ClassVar[frozenset[str]]
    notes: list[str]

    @classmethod
    def terms(cls, config: LabelConfig) -> ServiceTerms:
        """What it costs."""
        ...

    @classmethod
    def tests_held_out(cls, config: LabelConfig) -> bool:
        """Whether labels are tried on documents that it was not shown."""
        ...

    @classmethod
    def quote(cls, config: LabelConfig, layers: Sequence[int]) -> Quote:
        """What the labels of so many clusters, layer by layer, will cost."""
        ...

    @classmethod
    def probe(cls, config: LabelConfig, spending: Spending | None = None) -> str:
        """Ask for one label, before anything is computed; returns a note for the user.

        Raises
        ------
        ConfigError
            If the address, the model, the key or an option is wrong.
        EnvironmentFailure
            If nothing answers.
        """
        ...

    def count_with(self, spending: Spending) -> None:
        """Have all requests from now on counted."""
        ...

    def distinguish(
        self, members: Sequence[ClusterEvidence], labels: Sequence[str], taken: Sequence[str]
    ) -> Sequence[Label | NoLabel]:
        """Name siblings again, in one request, whose labels say the same.

        Parameters
        ----------
        members : sequence of ClusterEvidence
        labels : sequence of str
            Their labels, in the same order.
        taken : sequence of str
            Labels of their other siblings.
        """
        ...

    def reconsider(self, evidence: ClusterEvidence, label: str, reason: str, taken: Sequence[str]) -> Label | NoLabel:
        """Name a cluster again whose label failed a test.

        Parameters
        ----------
        label, reason : str
            The label, and what is wrong with it.
        taken : sequence of str
            Labels of its siblings.
        """
        ...

    def stop(self) -> None:
        """Send no further request; called from another thread."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


def is_service(labeler: type[Labeler]) -> TypeGuard[type[ServiceLabeler]]:
    """Whether a class of labelers is one of :class:`ServiceLabeler`."""
    return bool(getattr(labeler, "is_service", False))


def answering_options(labeler: type[Labeler], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that alter labels, for their identity."""
    transport = labeler.transport if is_service(labeler) else frozenset[str]()
    return {name: value for name, value in options.items() if name not in transport}
