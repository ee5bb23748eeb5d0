"""Embedder specs: identity, width, limits and resources of an embedder, available without loading the model."""

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
    from latentscale.embedders.service import ProbeResult
    from latentscale.machine import Place
    from latentscale.services.terms import ServiceTerms


class EmbedderSpec(Settings):
    """Which model embeds documents, and how; a frozen pydantic model, identified by its ``kind``.

    It is made from the settings on the driver, recorded with the embedding, and sent to the workers, which open it. All
    methods but ``open`` and ``check`` must work without loading weights, so that a driver without a GPU can plan for
    workers that have one.

    Attributes
    ----------
    kind : str
        Name in ``latentscale.registry.EMBEDDERS``.
    deterministic : bool
        Whether a text's vector is bitwise equal in every batch and on every machine.
    reads : {"text", "vectors"}
        Which column of a shard is embedded: the text, or existing vectors.
    """

    kind: Any
    deterministic: ClassVar[bool] = True
    reads: ClassVar[Literal["text", "vectors"]] = "text"

    @classmethod
    @abstractmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """Make the spec from a job's ``embed`` settings.

        Parameters
        ----------
        vectors_column : str or None
            Stored column of existing vectors.

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
        """Width of the vectors; None if it depends on the corpus."""
        return None

    @property
    def token_limit(self) -> int | None:
        """Maximum number of tokens of a text; None without a limit."""
        return None

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Return all that alters the vectors, as JSON values; never a path."""

    def settle(self, place: Callable[[], Place]) -> Self:
        """Return this spec with settings resolved that depend on where it will be opened.

        Parameters
        ----------
        place : callable
            Returns the resources of a worker; it may start an engine, so call it only if needed.
        """
        return self

    def settled_options(self) -> Mapping[str, Any]:
        """Return resolved values of ``embed.options``, which an update of the map reuses."""
        return {}

    def as_held(self, held: EmbedderSpec) -> Self:
        """Return this spec for an update whose settings name no revision: with that of ``held``, the map's spec."""
        return self

    def resources(self) -> StageResources:
        """Return default resources of a worker: ``gpus="auto"`` if a GPU is optional, 1 if it is required."""
        return StageResources()

    def notice(self, languages: Mapping[str, int]) -> str | None:
        """Return a notice for the user, or None; ``languages`` counts documents by apparent language."""
        return None

    @property
    def terms(self) -> ServiceTerms | None:
        """Prices and limits of a service; the spec then opens a ``ServiceEmbedder``, whose answers are persisted."""
        return None

    def probe(self) -> ProbeResult | None:
        """Request one vector from a service before the first shard; None if it is not a service.

        Raises
        ------
        ConfigError
            If the service rejects the settings.
        EnvironmentFailure
            If the service does not answer.
        """
        return None

    @property
    def check_rows(self) -> int:
        """Number of documents to pass to ``check`` before embedding; 0: no check."""
        return 0

    def check(self, texts: Sequence[str], device: str = "cpu") -> Mapping[str, Any]:
        """Check on some of the user's documents whether the model is good enough for them.

        Runs once for an embedding, where a worker of the stage would run.

        Parameters
        ----------
        texts : sequence of str
            Distinct texts, at most ``check_rows``.

        Returns
        -------
        mapping
            Added to the embedding's record; ``summary`` is a sentence for the user.

        Raises
        ------
        ConfigError
            If it is not.
        """
        return {}

    @abstractmethod
    def open(self, device: str = "cpu") -> Embedder:
        """Load the model.

        Raises
        ------
        ConfigError
            If the model is unreadable.
        MissingPackageError
            If a required package is not installed.
        """


def embedder_spec(config: EmbedConfig, *, vectors_column: str | None = None) -> EmbedderSpec:
    """Make the spec of the embedder that the settings name, without loading weights.

    Raises
    ------
    ConfigError
        If there is no such embedder; the hint suggests a similar name.
    EnvironmentFailure
        If the model is not on this machine and cannot be downloaded.
    """
    if config.model.startswith("~"):  # a shell leaves it in --set embed.model=~/model
        config = config.model_copy(update={"model": str(at_home(config.model))})
    if config.kind != "auto":
        return _configured_kind(config).from_settings(config, vectors_column=vectors_column)
    if config.model in EMBEDDERS:
        return _load(config.model).from_settings(config, vectors_column=vectors_column)
    failure: LatentScaleError | None = None
    modules = EMBEDDERS.homes()
    for kind in EMBEDDERS.names():
        if failure is not None and modules[kind].startswith("latentscale."):
            continue
        try:
            recognized = _load(kind).recognizes(config.model)
        except LatentScaleError as error:
            # Not a hub model as far as known, but an embedder of another package may recognise it.
            failure = error
            continue
        if recognized:
            return _load(kind).from_settings(config, vectors_column=vectors_column)
    if failure is not None:
        raise failure
    names = EMBEDDERS.names()
    similar = difflib.get_close_matches(config.model, names, n=1)
    raise ConfigError(
        f"there is no embedder {config.model!r}, and no folder of that name that contains a model",
        where="embed.model",
        hint=(f"Did you mean {similar[0]!r}? " if similar else "")
        + f"Use one of {', '.join(names)}, the folder of a model, or its id on the hub: latentscale models list.",
    )


def _configured_kind(config: EmbedConfig) -> type[EmbedderSpec]:
    """Load the spec class of ``embed.kind``."""
    names = EMBEDDERS.names()
    if config.kind not in EMBEDDERS:
        similar = difflib.get_close_matches(config.kind, names, n=1)
        raise ConfigError(
            f"there is no kind of embedder {config.kind!r}",
            where="embed.kind",
            hint=(f"Did you mean {similar[0]!r}? " if similar else "") + f"Use auto or one of {', '.join(names)}.",
        )
    if config.model in EMBEDDERS and config.model != config.kind:
        raise ConfigError(
            f"embed.kind is {config.kind!r}, and embed.model is {config.model!r}, which is another kind",
            where="embed.model",
            hint="Name the model by its folder or id, or leave embed.kind out.",
        )
    return _load(config.kind)


def read_spec(values: Mapping[str, Any]) -> EmbedderSpec:
    """Load the spec in a record, by its ``kind``.

    Raises
    ------
    DamagedObjectError
        If no embedder of that kind is installed, or its settings are of another version.
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
    """Validate ``embed.options`` with the embedder's model.

    Raises
    ------
    ConfigError
        The message names the first unknown or invalid option.
    """
    return checked_options(config.options, model, where="embed.options")


def opened_embedder(spec: EmbedderSpec, device: str = "cpu") -> Any:
    """Open an embedder, cached per process: loading even the smallest model takes half a second.

    Returns
    -------
    Embedder or VectorReader
        Depending on ``spec.reads``.
    """
    return _opened(spec.model_dump_json(), device)


@lru_cache(maxsize=2)
def _opened(spec: str, device: str) -> Any:
    return read_spec(json.loads(spec)).open(device)


def is_folder(model: str) -> bool:
    """Whether ``embed.model`` is a folder on this machine."""
    return Path(model).is_dir()


def _load(kind: str) -> type[EmbedderSpec]:
    return EMBEDDERS.load(kind)
