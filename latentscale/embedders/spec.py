"""Embedder specs: identity, width, limits and resources of an embedder as a value, before any model loads."""

from __future__ import annotations

import difflib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import ValidationError

from latentscale.config import EmbedConfig, Settings, StageResources
from latentscale.config.options import Options, checked_options
from latentscale.errors import ConfigError, DamagedObjectError, LatentScaleError
from latentscale.file_names import at_home
from latentscale.registry import EMBEDDERS

if TYPE_CHECKING:
    from latentscale.embedders.protocol import Embedder
    from latentscale.embedders.service import Probed
    from latentscale.machine import Place
    from latentscale.services.terms import ServiceTerms


class EmbedderSpec(Settings):
    """Which model turns documents into vectors, and how; a frozen model of pydantic with a ``kind`` of its own.

    It is made from the settings on the driver, is recorded with the embedding, and travels to the workers, which open
    it. Everything here but ``open`` must do without the model's weights in memory, so that a driver without a GPU can
    plan for workers that have one.

    Attributes
    ----------
    kind : str
        As in ``latentscale.registry.EMBEDDERS``.
    deterministic : bool
        Whether the same text gives the same bits, whatever else is in its batch and on whatever machine.
    reads : {"text", "vectors"}
        Which column of a shard it gets: the text, or the corpus's own vectors.
    """

    kind: Any
    deterministic: ClassVar[bool] = True
    reads: ClassVar[Literal["text", "vectors"]] = "text"

    @classmethod
    @abstractmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """Make the spec of the group ``embed`` of a job.

        Parameters
        ----------
        vectors_column : str or None
            Stored column of the corpus's own vectors.

        Raises
        ------
        ConfigError
            If a setting does not fit this kind, or the model does not exist.
        """

    @classmethod
    def recognizes(cls, model: str) -> bool:
        """Whether ``embed.model`` names a model of this kind: a folder or an id, not the name of the kind itself."""
        return False

    @property
    def name(self) -> str:
        """Display name of the model; never part of the identity."""
        return self.kind

    @property
    def dimensions(self) -> int | None:
        """Width of the vectors; None where only the corpus knows."""
        return None

    @property
    def token_limit(self) -> int | None:
        """Maximum number of tokens of a text; None without a limit."""
        return None

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Everything that alters the vectors, as values that canonical JSON can hold: never a path."""

    def settle(self, place: Callable[[], Place]) -> Self:
        """This spec, with what it leaves to the place where it will be opened decided.

        Parameters
        ----------
        place : callable
            Measures what a worker has; it may start an engine, so call it only where something is to be decided.
        """
        return self

    def settled_options(self) -> Mapping[str, Any]:
        """What was decided for the user, as values of ``embed.options``: an update of the map must find it again."""
        return {}

    def as_held(self, held: EmbedderSpec) -> Self:
        """This spec as an update uses it, where the settings name no revision: in that of ``held``, the map's own."""
        return self

    def resources(self) -> StageResources:
        """Default resources of a worker: ``gpus="auto"`` for one that runs on a GPU or without, 1 for one that must."""
        return StageResources()

    def notice(self, languages: Mapping[str, int]) -> str | None:
        """A note for the user on these documents, counted by their apparent language, or None."""
        return None

    @property
    def terms(self) -> ServiceTerms | None:
        """What it costs, where it is a service: it then opens a ``ServiceEmbedder``, whose answers are kept."""
        return None

    def probe(self) -> Probed | None:
        """Ask a service for one vector before the first shard; None where there is none to ask.

        Raises
        ------
        ConfigError
            If the settings are wrong in a way that only the service knows.
        EnvironmentFailure
            If it does not answer.
        """
        return None

    @property
    def check_rows(self) -> int:
        """How many of the user's documents ``check`` wants to see before any is embedded; 0: there is no check."""
        return 0

    def check(self, texts: Sequence[str], device: str = "cpu") -> Mapping[str, Any]:
        """Measure on the user's own documents what decides whether the model can be used for them.

        It runs once for an embedding, where a worker of the stage would run.

        Parameters
        ----------
        texts : sequence of str
            Different ones, at most ``check_rows``.

        Returns
        -------
        mapping
            For the record of the embedding; ``summary`` is a sentence for the user.

        Raises
        ------
        ConfigError
            If it cannot.
        """
        return {}

    @abstractmethod
    def open(self, device: str = "cpu") -> Embedder:
        """Load the model.

        Raises
        ------
        ConfigError
            If the model cannot be read.
        MissingPackageError
            If it needs a package that is not installed.
        """


def embedder_spec(config: EmbedConfig, *, vectors_column: str | None = None) -> EmbedderSpec:
    """The embedder that the settings name; nothing is loaded.

    Raises
    ------
    ConfigError
        If there is none of that name, with the nearest.
    EnvironmentFailure
        If it is the id of a model that is not on this machine and cannot be fetched.
    """
    if config.model.startswith("~"):  # a shell leaves it in --set embed.model=~/model
        config = config.model_copy(update={"model": str(at_home(config.model))})
    if config.kind != "auto":
        return _of_kind(config).from_settings(config, vectors_column=vectors_column)
    if config.model in EMBEDDERS:
        return _load(config.model).from_settings(config, vectors_column=vectors_column)
    refused: LatentScaleError | None = None
    homes = EMBEDDERS.homes()
    for kind in EMBEDDERS.names():
        if refused is not None and homes[kind].startswith("latentscale."):
            continue
        try:
            known = _load(kind).recognizes(config.model)
        except LatentScaleError as error:
            # No model of the hub, as far as it can be asked: it may be one of another package.
            refused = error
            continue
        if known:
            return _load(kind).from_settings(config, vectors_column=vectors_column)
    if refused is not None:
        raise refused
    names = EMBEDDERS.names()
    near = difflib.get_close_matches(config.model, names, n=1)
    raise ConfigError(
        f"there is no embedder {config.model!r}, and no folder of that name that holds a model",
        where="embed.model",
        hint=(f"Did you mean {near[0]!r}? " if near else "")
        + f"Use one of {', '.join(names)}, the folder of a model, or its id on the hub: latentscale models list.",
    )


def _of_kind(config: EmbedConfig) -> type[EmbedderSpec]:
    """The kind that ``embed.kind`` names."""
    names = EMBEDDERS.names()
    if config.kind not in EMBEDDERS:
        near = difflib.get_close_matches(config.kind, names, n=1)
        raise ConfigError(
            f"there is no kind of embedder {config.kind!r}",
            where="embed.kind",
            hint=(f"Did you mean {near[0]!r}? " if near else "") + f"Use auto or one of {', '.join(names)}.",
        )
    if config.model in EMBEDDERS and config.model != config.kind:
        raise ConfigError(
            f"embed.kind is {config.kind!r}, and embed.model is {config.model!r}, which is another kind",
            where="embed.model",
            hint="Name the model by its folder or id, or leave embed.kind out.",
        )
    return _load(config.kind)


def read_spec(values: Mapping[str, Any]) -> EmbedderSpec:
    """The embedder that a record holds, by its ``kind``.

    Raises
    ------
    DamagedObjectError
        If no embedder of that kind is installed here, or its settings are of another version.
    """
    kind = str(values.get("kind"))
    if kind not in EMBEDDERS:
        raise DamagedObjectError(
            f"this map was embedded by {kind!r}, which is not installed",
            hint="Install the package that adds it, or the version of LatentScale with which the map was made.",
        )
    try:
        return _load(kind).model_validate(dict(values))
    except ValidationError as error:
        raise DamagedObjectError(f"the embedder {kind!r} of another version: {error.errors()[0]['msg']}") from error


def options_of(config: EmbedConfig, model: type[Options]) -> Options:
    """``embed.options`` as a model of the embedder's own.

    Raises
    ------
    ConfigError
        Naming the first that does not exist or cannot be.
    """
    return checked_options(config.options, model, where="embed.options")


def opened_embedder(spec: EmbedderSpec, device: str = "cpu") -> Any:
    """Open an embedder once a process: loading even the smallest model takes half a second.

    Returns
    -------
    Embedder or VectorReader
        As ``spec.reads`` says.
    """
    return _opened(spec.model_dump_json(), device)


@lru_cache(maxsize=2)
def _opened(spec: str, device: str) -> Any:
    return read_spec(json.loads(spec)).open(device)


def is_folder(model: str) -> bool:
    """Whether ``embed.model`` names a folder of this machine."""
    return Path(model).is_dir()


def _load(kind: str) -> type[EmbedderSpec]:
    return EMBEDDERS.load(kind)
