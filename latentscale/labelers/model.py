"""The protocol of labelers that use a language model: cost estimates, and follow-up questions about labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeGuard

from latentscale.config import LabelConfig, StageResources
from latentscale.labelers.protocol import ClusterEvidence, Label, Labeler, NoLabel
from latentscale.machine import Place, Replicas
from latentscale.services.terms import ServiceTerms, Spending, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The estimated cost of labels.

    Attributes
    ----------
    clusters, prompts : int
        Clusters of all layers, and requests, as some clusters need two.
    usage : Usage
        Tokens of prompts and answers.
    cost : float or None
        In the currency of the prices; None if no prices are configured.
    minutes : float or None
        Estimated duration; None if it depends on an unknown machine.
    """

    clusters: int
    prompts: int
    usage: Usage
    cost: float | None
    minutes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedLabel:
    """A cluster whose label failed a test.

    Attributes
    ----------
    evidence : ClusterEvidence
    label, reason : str
        The label, and why it was rejected.
    other_labels : sequence of str
        Labels of its siblings.
    """

    evidence: ClusterEvidence
    label: str
    reason: str
    other_labels: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiblingGroup:
    """Sibling clusters whose labels are equivalent.

    Attributes
    ----------
    members : sequence of ClusterEvidence
    labels : sequence of str
        Their labels, in the same order.
    other_labels : sequence of str
        Labels of their other siblings.
    """

    members: Sequence[ClusterEvidence]
    labels: Sequence[str]
    other_labels: Sequence[str]


class ModelLabeler(Labeler, Protocol):
    """A labeler that uses a language model, and can revise its labels.

    Attributes
    ----------
    asks_a_model : bool
        True; identifies such labelers.
    transport : frozenset of str
        Options that affect how requests are sent but not the answers; excluded from the labels' identity.
    notes : list of str
        Notes for the user on how the model was queried, kept in the record.
    """

    asks_a_model: ClassVar[bool]
    transport: ClassVar[frozenset[str]]

    @property
    def notes(self) -> list[str]: ...

    @classmethod
    def terms(cls, config: LabelConfig) -> ServiceTerms:
        """Return the prices and limits of the service."""
        ...

    @classmethod
    def tests_held_out(cls, config: LabelConfig) -> bool:
        """Whether labels are tested on held-out documents."""
        ...

    @classmethod
    def quote(cls, config: LabelConfig, layers: Sequence[int]) -> Quote:
        """Estimate the cost of labels; ``layers`` is the number of clusters by layer."""
        ...

    @classmethod
    def probe(cls, config: LabelConfig, spending: Spending | None = None) -> str:
        """Check before any computation whether the model answers; returns a note for the user.

        Raises
        ------
        ConfigError
            If the address, the model, the key or an option is wrong.
        EnvironmentFailure
            If the service does not respond.
        """
        ...

    def count_with(self, spending: Spending) -> None:
        """Record the spending of all further requests in ``spending``."""
        ...

    def label_each(self, evidence: Sequence[ClusterEvidence]) -> Iterator[tuple[int, Label | NoLabel]]:
        """Label clusters; yields (position, answer) as answers arrive."""
        ...

    def distinguish(self, groups: Sequence[SiblingGroup]) -> Iterator[tuple[int, Sequence[Label | NoLabel]]]:
        """Relabel groups of equivalent siblings, each in one request; yields (position, answers) as they arrive."""
        ...

    def reconsider(self, doubts: Sequence[RejectedLabel]) -> Iterator[tuple[int, Label | NoLabel]]:
        """Relabel clusters whose labels failed a test; yields (position, answer) as answers arrive."""
        ...

    def stop(self) -> None:
        """Send no further requests; called from another thread."""
        ...

    def close(self) -> None:
        """Release resources, such as connections or a model."""
        ...


class JobLabeler(ModelLabeler, Protocol):
    """A labeler whose model runs in the job itself: in the stage's worker, or in workers that it starts.

    Attributes
    ----------
    runs_in_the_job : bool
        True; identifies such labelers.
    starts_workers : bool
        Whether it is opened by :meth:`open_on_cluster` on engines with several nodes.
    """

    runs_in_the_job: ClassVar[bool]
    starts_workers: ClassVar[bool]

    @classmethod
    def resources(cls) -> StageResources:
        """Return the defaults of ``engine.resources.label``."""
        ...

    @classmethod
    def check_place(cls, place: Place) -> None:
        """Reject a place that lacks the requirements of the model.

        Raises
        ------
        MissingPackageError
            With the command that installs the missing package.
        ResourceError
            If it lacks a required GPU.
        """
        ...

    @classmethod
    def settled(cls, config: LabelConfig) -> Mapping[str, Any]:
        """Return the options with everything resolved that must not depend on the worker, such as a model's commit."""
        ...

    @classmethod
    def open_on_cluster(cls, config: LabelConfig, replicas: Replicas) -> ModelLabeler:
        """Open the labeler in a worker of a cluster, from which it starts workers of its own."""
        ...


def asks_a_model(labeler: type[Labeler]) -> TypeGuard[type[ModelLabeler]]:
    """Whether a labeler class is a :class:`ModelLabeler`."""
    return bool(getattr(labeler, "asks_a_model", False))


def runs_in_the_job(labeler: type[Labeler]) -> TypeGuard[type[JobLabeler]]:
    """Whether a labeler class is a :class:`JobLabeler`."""
    return bool(getattr(labeler, "runs_in_the_job", False))


def settled_options(labeler: type[Labeler], config: LabelConfig) -> Mapping[str, Any]:
    """Return the resolved options with which the labeler is opened in any worker."""
    return labeler.settled(config) if runs_in_the_job(labeler) else config.options


def answering_options(labeler: type[Labeler], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that affect labels, for their identity."""
    transport = labeler.transport if asks_a_model(labeler) else frozenset[str]()
    return {name: value for name, value in options.items() if name not in transport}
