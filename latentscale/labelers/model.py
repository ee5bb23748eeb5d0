"""The protocol of labelers that ask a language model: what they cost, and how their answers are looked at again."""

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
    """What labels will cost, about.

    Attributes
    ----------
    clusters, prompts : int
        Clusters of all layers, and requests: some are asked about twice.
    usage : Usage
        Tokens of requests and answers.
    cost : float or None
        In the currency of the prices; None where none is given.
    minutes : float or None
        None where it depends on a machine that is not known.
    """

    clusters: int
    prompts: int
    usage: Usage
    cost: float | None
    minutes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """A cluster whose label failed a test.

    Attributes
    ----------
    evidence : ClusterEvidence
    label, reason : str
        The label, and what is wrong with it.
    taken : sequence of str
        Labels of its siblings.
    """

    evidence: ClusterEvidence
    label: str
    reason: str
    taken: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """Siblings whose labels say the same.

    Attributes
    ----------
    members : sequence of ClusterEvidence
    labels : sequence of str
        Their labels, in the same order.
    taken : sequence of str
        Labels of their other siblings.
    """

    members: Sequence[ClusterEvidence]
    labels: Sequence[str]
    taken: Sequence[str]


class ModelLabeler(Labeler, Protocol):
    """A labeler that asks a language model, and whose labels are looked at again.

    Attributes
    ----------
    asks_a_model : bool
        True: by this the stage knows it.
    transport : frozenset of str
        Options that alter how it is asked and not what it answers: no part of the labels' identity.
    notes : list of str
        What a person should know of how the model was asked; for the record.
    """

    asks_a_model: ClassVar[bool]
    transport: ClassVar[frozenset[str]]

    @property
    def notes(self) -> list[str]: ...

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
        """Find out before anything is computed whether it can give labels; returns a note for the user.

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

    def label_each(self, evidence: Sequence[ClusterEvidence]) -> Iterator[tuple[int, Label | NoLabel]]:
        """Name some clusters, each with its position, as the answers come."""
        ...

    def distinguish(self, groups: Sequence[Siblings]) -> Iterator[tuple[int, Sequence[Label | NoLabel]]]:
        """Name siblings again whose labels say the same, each group in one request, as the answers come."""
        ...

    def reconsider(self, doubts: Sequence[Doubt]) -> Iterator[tuple[int, Label | NoLabel]]:
        """Name clusters again whose labels failed a test, as the answers come."""
        ...

    def stop(self) -> None:
        """Send no further request; called from another thread."""
        ...

    def close(self) -> None:
        """Release what it holds: connections, a model."""
        ...


class JobLabeler(ModelLabeler, Protocol):
    """A labeler whose model runs in the job itself: in the worker of the stage, or in workers that this one starts.

    Attributes
    ----------
    runs_in_the_job : bool
        True: by this the pipeline knows it.
    starts_workers : bool
        Whether it is opened by :meth:`open_on_cluster` on an engine that has other nodes.
    """

    runs_in_the_job: ClassVar[bool]
    starts_workers: ClassVar[bool]

    @classmethod
    def resources(cls) -> StageResources:
        """What ``engine.resources.label`` leaves open."""
        ...

    @classmethod
    def check_place(cls, place: Place) -> None:
        """Refuse a place that lacks what the model needs to run there.

        Raises
        ------
        MissingPackageError
            With the command that installs what is missing.
        ResourceError
            If it lacks a GPU that the model needs.
        """
        ...

    @classmethod
    def settled(cls, config: LabelConfig) -> Mapping[str, Any]:
        """The options, with what is decided now and not where the stage runs: the commit of a model."""
        ...

    @classmethod
    def open_on_cluster(cls, config: LabelConfig, replicas: Replicas) -> ModelLabeler:
        """Open the labeler in a worker of a cluster, where it starts workers of its own."""
        ...


def asks_a_model(labeler: type[Labeler]) -> TypeGuard[type[ModelLabeler]]:
    """Whether a class of labelers is one of :class:`ModelLabeler`."""
    return bool(getattr(labeler, "asks_a_model", False))


def runs_in_the_job(labeler: type[Labeler]) -> TypeGuard[type[JobLabeler]]:
    """Whether a class of labelers is one of :class:`JobLabeler`."""
    return bool(getattr(labeler, "runs_in_the_job", False))


def settled_options(labeler: type[Labeler], config: LabelConfig) -> Mapping[str, Any]:
    """The options with which the labeler is opened, wherever the stage runs."""
    return labeler.settled(config) if runs_in_the_job(labeler) else config.options


def answering_options(labeler: type[Labeler], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that alter labels, for their identity."""
    transport = labeler.transport if asks_a_model(labeler) else frozenset[str]()
    return {name: value for name, value in options.items() if name not in transport}
