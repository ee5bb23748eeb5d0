"""The settings of a job: one frozen model a stage, and the only place where defaults live."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from latentscale.errors import ConfigError

SCHEMA_VERSION = 1

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$")
_FIELD = re.compile(r"\{([^{}]+)\}")


class Settings(BaseModel):
    """Base of all settings: frozen, and a key that does not exist is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


class CorpusConfig(Settings):
    """What to read."""

    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files, directories, globs or fsspec URLs; the word `demo` is the corpus that comes with LatentScale."""
    text: str | None = None
    """The text column, or a template of columns such as "{title}\\n{abstract}". Files of plain text need none."""
    id: str | None = None
    """The column that identifies a document. The last document of an id wins."""
    format: Literal["auto", "parquet", "csv", "tsv", "jsonl", "lines", "files"] = "auto"
    """How to read the sources; `auto` goes by the file name. `lines`: a document a line, `files`: a document a file."""
    encoding: str = "utf-8"
    """Character encoding of CSV, JSONL and text files."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Column separator of CSV files; by default a comma, for .tsv a tab."""
    where: str | None = None
    """A SQL condition on the source columns, run by polars, such as "year >= 2020 AND lang = 'en'"."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Take the first so many documents."""
    sample: Annotated[float, Field(gt=0, le=1)] | None = None
    """Take this share of the documents, chosen by a hash of the id (or of the text), so that it is stable."""
    vectors: str | None = None
    """The column of embedding vectors, for `embed.model: column`."""
    storage_options: Mapping[str, Any] = {}
    """Options for fsspec. Keys and secrets belong in the environment, not here."""

    @field_validator("sources", mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError as error:
            raise ValueError(f"{value!r} is not an encoding that Python knows") from error
        return value

    def text_columns(self) -> tuple[str, ...]:
        """The source columns that the text is made of; empty where the format gives the text."""
        if self.text is None:
            return ()
        fields = tuple(_FIELD.findall(self.text))
        return tuple(dict.fromkeys(fields)) if fields else (self.text,)

    def is_template(self) -> bool:
        """Whether `text` is a template of columns and not the name of one."""
        return self.text is not None and bool(_FIELD.search(self.text))


class IngestConfig(Settings):
    """How the corpus is cut into shards, and what is set aside."""

    shard_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 16_384
    """Rows in a shard at most: the unit of I/O and of resume."""
    shard_bytes: Annotated[int, Field(ge=1 << 16)] = 64 << 20
    """Bytes of text and columns in a shard at most (a shard ends at whichever bound comes first)."""
    max_text_characters: Annotated[int, Field(ge=1)] = 1_000_000
    """A longer text goes to the rejects."""
    max_reject_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """A larger share of rejects ends the run before anything is embedded."""
    fingerprint: Literal["stat", "content"] = "stat"
    """How an input file is recognised: by path, size and modification time (or ETag), or by its bytes."""


class EmbedConfig(Settings):
    """How documents become vectors."""

    model: str = "static"
    """`static` (ships with LatentScale), `column` (vectors of the corpus), or the folder of a model2vec model."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Tokens of a text that count; the rest is not read."""
    dtype: Literal["float16", "float32"] = "float16"
    """How the vectors are kept."""


class NeighborsConfig(Settings):
    """The nearest-neighbour graph that all later stages share."""

    k: Annotated[int, Field(ge=2, le=256)] | None = None
    """Neighbours kept; by default what the other stages ask for."""
    method: Literal["auto", "exact", "pynndescent"] = "auto"
    """`auto` is exact for small sets."""
    recall: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The search is widened until its recall@15, measured on a sample, reaches this."""
    backend: Literal["auto", "cpu"] = "auto"
    """What computes it."""


class ProjectConfig(Settings):
    """The layout: UMAP in two dimensions for the map, and in a few more for clustering."""

    n_neighbors: Annotated[int, Field(ge=2, le=200)] = 15
    """How many neighbours UMAP looks at; more shows the whole, fewer the detail."""
    min_dist: Annotated[float, Field(ge=0, le=10)] = 0.1
    """How tightly UMAP packs the map."""
    spread: Annotated[float, Field(gt=0, le=10)] = 1.0
    """The scale of the embedded points."""
    n_epochs: Annotated[int, Field(ge=1)] | None = None
    """Steps of the optimisation; by default 500 for a map of up to 10,000 documents, else 200."""
    negative_sample_rate: Annotated[int, Field(ge=1)] = 5
    """Negative samples for each positive one."""
    learning_rate: Annotated[float, Field(gt=0)] = 1.0
    """UMAP's initial learning rate."""
    cluster_dimensions: Annotated[int, Field(ge=2, le=50)] = 5
    """Dimensions of the second layout, on which clusters are found (with min_dist 0)."""
    mode: Literal["auto", "exact", "fast"] = "auto"
    """`exact`: seeded, one thread, repeatable to the bit; `fast`: parallel. `auto` is exact up to 20,000 documents."""
    seed: int = 42
    """Seed of all random choices."""
    backend: Literal["auto", "cpu"] = "auto"
    """What computes it."""


class ClusterConfig(Settings):
    """How clusters are found."""

    method: Literal["hdbscan", "kmeans", "column"] = "hdbscan"
    """HDBSCAN, spherical K-means, or an existing column of the corpus."""
    space: Literal["projection", "vectors", "map"] = "projection"
    """Where HDBSCAN looks: the layout of `project.cluster_dimensions`, the vectors, or the map's x and y."""
    min_cluster_size: Annotated[int, Field(ge=2)] | None = None
    """Documents in a cluster at least; by default a five-hundredth of the corpus, between 5 and 2,000."""
    min_samples: Annotated[int, Field(ge=1)] | None = None
    """How conservative HDBSCAN is; by default 10, or less than that for small `min_cluster_size`."""
    cluster_selection_method: Literal["eom", "leaf"] = "eom"
    """`leaf` gives more and more even clusters."""
    cluster_selection_epsilon: Annotated[float, Field(ge=0)] = 0.0
    """Clusters closer than this are not split."""
    n_clusters: Annotated[int, Field(ge=2)] | None = None
    """Clusters of K-means; by default chosen by a silhouette curve."""
    column: str | None = None
    """The source column that holds the clusters, for `method: column`."""
    layer_factor: Annotated[float, Field(ge=2, le=50)] = 5.0
    """How many times fewer clusters each coarser layer has."""
    max_layers: Annotated[int, Field(ge=1, le=6)] = 3
    """Layers in all, the finest included."""
    seed: int = 42
    """Seed of K-means."""
    backend: Literal["auto", "cpu"] = "auto"
    """What computes it."""

    @model_validator(mode="after")
    def _column_is_named(self) -> ClusterConfig:
        if (self.method == "column") != (self.column is not None):
            raise ValueError("cluster.method 'column' and cluster.column go together")
        return self


class LabelConfig(Settings):
    """How clusters get their names."""

    method: Literal["keyphrases"] = "keyphrases"
    """c-TF-IDF keyphrases."""
    max_keyphrases: Annotated[int, Field(ge=1, le=50)] = 10
    """Keyphrases kept for a cluster."""
    exemplars: Annotated[int, Field(ge=1, le=100)] = 8
    """Exemplars chosen for a cluster."""
    max_documents_per_cluster: Annotated[int, Field(ge=10)] = 1_000
    """Documents of a cluster that are read for its keyphrases."""
    seed: int = 42
    """Seed of the samples."""


class QualityConfig(Settings):
    """What is measured of a map."""

    sample: Annotated[int, Field(ge=100)] = 1_000
    """Documents on which trustworthiness and neighbour preservation are measured."""
    against: str | None = None
    """A source column with known classes: NMI, ARI and purity are reported against it."""
    stability: bool = False
    """Also measure the agreement of the clusters of two seeds; costs a second layout."""


class PublishConfig(Settings):
    """What leaves the workspace."""

    columns: tuple[str, ...] | None = None
    """Source columns in the points and on the page; by default all."""
    text: Literal["page", "points", "none"] = "page"
    """`page`: the text is on the page, `points`: also in points/, `none`: in neither."""
    partition_by: str | None = None
    """A source column, or a layer such as "layer_1", by which points/ is partitioned."""
    viewer: bool = True
    """Whether the viewer is written."""
    title: str | None = None
    """Title of the page; by default the workspace's name."""


class EngineConfig(Settings):
    """What runs the shards."""

    name: Literal["local", "ray"] = "local"
    """This process, or a Ray cluster."""
    address: str | None = None
    """Address of a Ray cluster; by default one is started on this machine."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Ray actors for each shard stage; by default one a processor."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads for stages that use them; by default the processors that this process may use."""


class JobConfig(Settings):
    """A whole job: corpus, workspace and the settings of each stage."""

    corpus: CorpusConfig
    """What to read."""
    out: str
    """The workspace: a folder or an fsspec URL."""
    name: str | None = None
    """Name of the workspace; by default the last part of `out`."""
    ingest: IngestConfig = IngestConfig()
    embed: EmbedConfig = EmbedConfig()
    neighbors: NeighborsConfig = NeighborsConfig()
    project: ProjectConfig = ProjectConfig()
    cluster: ClusterConfig = ClusterConfig()
    label: LabelConfig = LabelConfig()
    quality: QualityConfig = QualityConfig()
    publish: PublishConfig = PublishConfig()
    engine: EngineConfig = EngineConfig()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and not NAME.match(value):
            raise ValueError(f"{value!r} is not a name: use letters, digits, '.', '_', '-' and spaces")
        return value

    @model_validator(mode="after")
    def _settings_agree(self) -> JobConfig:
        if self.neighbors.k is not None and self.neighbors.k < self.project.n_neighbors - 1:
            raise ValueError(
                f"neighbors.k is {self.neighbors.k}, but project.n_neighbors asks for {self.project.n_neighbors}: "
                f"set neighbors.k to {self.project.n_neighbors - 1} or more, or leave it out"
            )
        if (self.embed.model == "column") != (self.corpus.vectors is not None):
            raise ValueError("embed.model 'column' and corpus.vectors go together")
        return self


_GROUPS = ("ingest", "embed", "neighbors", "project", "cluster", "label", "quality", "publish", "engine")


def parse_job(values: Mapping[str, Any], *, where: str) -> JobConfig:
    """Validate settings that came from a file, the command line or Python.

    Parameters
    ----------
    values : mapping
        Nested settings, as in ``job.yaml``.
    where : str
        Where they came from, for the error message.

    Raises
    ------
    ConfigError
        Naming the first key that does not exist (with the nearest one that does) or the first value that cannot be.
    """
    try:
        return JobConfig.model_validate(values)
    except ValidationError as error:
        raise _explain(error, where) from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a ``job.yaml`` as nested settings, not validated yet.

    Raises
    ------
    ConfigError
        If the file is missing or is not YAML.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}", hint="latentscale init writes a commented job.yaml.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings", hint="latentscale init writes a commented job.yaml.")
    for key in ("corpus", *_GROUPS):
        if key in values and not isinstance(values[key], dict):
            raise ConfigError(f"{key} is not a group of settings", where=str(path))
    return values


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set ``stage.field=value`` in nested settings; values are read as YAML.

    Raises
    ------
    ConfigError
        If an override is not of that form.
    """
    for override in overrides:
        key, separator, raw = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override!r} is not of the form key=value", hint="--set project.n_neighbors=30")
        *parents, last = key.strip().split(".")
        place = values
        for part in parents:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {override!r}: {part} is not a group of settings")
        try:
            place[last] = yaml.safe_load(raw)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override!r}: {raw!r} cannot be read as a value") from error


def _explain(error: ValidationError, where: str) -> ConfigError:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys(first["loc"][:-1])
        near = _elsewhere(first["loc"]) or difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}."
        return ConfigError(f"there is no setting {place!r}", where=where, hint=hint)
    if first["type"] == "missing":
        return ConfigError(
            f"the setting {place!r} is missing", where=where, hint="latentscale init shows all settings."
        )
    message = str(first["msg"]).removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict | BaseModel) else f" (given: {first['input']!r})"
    return ConfigError(f"{place + ': ' if place else ''}{message}{given}", where=where)


def _model_at(parts: Sequence[int | str]) -> type[BaseModel]:
    model: type[BaseModel] = JobConfig
    for part in parts:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        model = field.annotation
    return model


def _keys(parts: Sequence[int | str]) -> list[str]:
    return list(_model_at(parts).model_fields)


def _elsewhere(place: Sequence[int | str]) -> list[str]:
    """Find settings of the same name in another group: `n_neighbors` at the top means `project.n_neighbors`."""
    wanted = str(place[-1])
    return [
        f"{group}.{wanted}"
        for group, field in JobConfig.model_fields.items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
        and wanted in field.annotation.model_fields
    ]
