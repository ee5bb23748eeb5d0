"""The settings of a job: one frozen model a stage, and the only place where defaults live."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from latentscale.errors import ConfigError

SCHEMA_VERSION = 1

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$")
_FIELD = re.compile(r"\{([^{}]+)\}")


class Settings(BaseModel):
    """Base of all settings: frozen, and a key that does not exist is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


class StorageConfig(Settings):
    """How to reach an object store. No setting holds a key: credentials are named, or found by the usual chain."""

    endpoint_url: str | None = None
    """Address of an S3-compatible store; by default AWS_ENDPOINT_URL, the profile's, or AWS."""
    region: str | None = None
    """Region; by default AWS_DEFAULT_REGION or the profile's."""
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    """Where the bucket's name goes; `auto` is the path for a store with an endpoint_url, else the host name."""
    profile: str | None = None
    """Profile of the AWS configuration files; by default AWS_PROFILE."""
    anonymous: bool = False
    """Send no credentials, for public buckets."""
    requester_pays: bool = False
    """Agree to pay for the requests, for buckets that ask for it."""
    key_variable: str | None = None
    """Name of the environment variable with the access key's id; NAME_FILE may hold the path of a file instead."""
    secret_variable: str | None = None
    """Name of the environment variable with the secret key; NAME_FILE as above."""
    token_variable: str | None = None
    """Name of the environment variable with the session token, where there is one; NAME_FILE as above."""
    multipart_threshold: Annotated[int, Field(ge=5 << 20, le=5 << 30)] = 64 << 20
    """Bytes from which an object is uploaded in parts."""
    part_size: Annotated[int, Field(ge=5 << 20, le=5 << 30)] = 32 << 20
    """Bytes of a part, in both directions."""
    max_requests: Annotated[int, Field(ge=1, le=256)] = 16
    """Requests under way at once in one process."""
    budget: Annotated[float, Field(gt=0)] = 120.0
    """Seconds for which a failing request is tried again once the store has answered."""
    first_budget: Annotated[float, Field(gt=0)] = 15.0
    """Seconds for the first contact; with the start of the program it stays below half a minute."""
    options: Mapping[str, Any] = {}
    """Further options of the fsspec file system, for other protocols; keys and secrets are refused here."""

    @field_validator("endpoint_url")
    @classmethod
    def _plain_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.match(r"^https?://[^/\s]+", value):
            raise ValueError("an endpoint begins with http:// or https://")
        _without_credentials(value)
        return value.rstrip("/")

    @field_validator("key_variable", "secret_variable", "token_variable")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        # What is no name of a variable is perhaps the key itself: it is not repeated.
        if value is not None and (not _VARIABLE.match(value) or _KEY.match(value)):
            raise ValueError("this is the name of an environment variable, not a key itself")
        return value

    @field_validator("options")
    @classmethod
    def _no_secret(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        _refuse_secrets(value)
        return value

    @model_validator(mode="after")
    def _credentials_agree(self) -> StorageConfig:
        if (self.key_variable is None) != (self.secret_variable is None):
            raise ValueError("key_variable and secret_variable go together")
        if self.token_variable and not self.key_variable:
            raise ValueError("token_variable goes together with key_variable and secret_variable")
        if self.anonymous and (self.key_variable or self.profile):
            raise ValueError("anonymous goes neither with variables nor with a profile")
        if self.profile and self.key_variable:
            raise ValueError("profile and key_variable name two sources of credentials: leave one out")
        return self


_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")
# An AWS key id, or forty letters of mixed case and digits: a key that was given where its variable should be named.
_KEY = re.compile(r"^(A[KS]IA[A-Z0-9]{12,}|(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9]{24,})$")
_SECRET = re.compile(
    r"^(key|secret|token|password|passwd|pass|credential|credentials|sas_token|username|"
    r"authorization|connection_string|x-api-key|cookie)$"
    r"|.*(secret|password|passphrase|access_key|account_key|private_key|api_?key|auth_?token|session_token|sas_token)"
)
# Names that look like a secret and may be given: none of them opens anything.
_HARMLESS = {"token": ("anon", "cloud", "google_default", "cache", "browser")}


def _refuse_secrets(options: Mapping[str, Any], path: str = "options") -> None:
    for name, value in options.items():
        place = f"{path}.{name}"
        if isinstance(value, Mapping):
            _refuse_secrets(cast("Mapping[str, Any]", value), place)
        elif _SECRET.match(str(name).lower()) and value is not None and value not in _HARMLESS.get(str(name), ()):
            raise ValueError(
                f"{place} looks like a key or secret, which has no place in settings: put it into an environment "
                "variable (S3: name it with key_variable and secret_variable; other stores: their own variables)"
            )
        elif isinstance(value, str):
            _without_credentials(value)


def _without_credentials(url: str) -> None:
    """Refuse an address with a password in it: addresses are recorded and printed."""
    if re.match(r"^\w+://[^/@\s]+@", url) and re.match(r"^\w+://[^/@\s]*:", url):
        raise ValueError("an address must not hold a user and a password: put them into the environment")


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
    storage: StorageConfig | None = None
    """How to reach the sources, as in `storage`; by default that, where the protocol is the same as that of `out`."""

    @field_validator("sources", mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("sources")
    @classmethod
    def _no_password(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for source in value:
            _without_credentials(source)
        return value

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


class DriftConfig(Settings):
    """When the documents that came since a fit are so different that a new one is due."""

    added_share: Annotated[float, Field(gt=0)] = 0.2
    """Documents that were added since the fit, as a share of those fitted."""
    removed_share: Annotated[float, Field(gt=0)] = 0.2
    """Documents of the fit that are gone, as a share of those fitted."""
    ood_share: Annotated[float, Field(gt=0, le=1)] = 0.15
    """Share of the added documents that are farther from the fit than 95 in 100 of its own."""
    noise_increase: Annotated[float, Field(gt=0, le=1)] = 0.15
    """By how much the share of noise may be higher among the added documents."""
    cluster_growth: Annotated[float, Field(gt=0)] = 1.0
    """How many documents a cluster may gain for each that it was fitted with."""


class UpdateConfig(Settings):
    """How a map grows."""

    recall: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The search for the fitted neighbours of a new document is widened until its recall reaches this."""
    max_removed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """If a larger share of the map's documents is gone from the corpus, nothing is changed and the run says so."""
    drift: DriftConfig = DriftConfig()
    """From where on a refit is due."""


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


class StageResources(Settings):
    """What one worker of a stage gets, and how many workers there are."""

    cpus: Annotated[float, Field(ge=0)] | None = None
    """Processors; by default 1 for a worker of ingest or embed, and those of the largest node for the other stages."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs; less than 1 is a share of one."""
    memory: Annotated[int, Field(ge=0)] = 0
    """Bytes of memory, or a text such as "4GB", which Ray sets aside; 0 asks for none."""
    custom: Mapping[str, Annotated[float, Field(gt=0)]] = {}
    """Amounts of the cluster's own resources, by name."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Workers of ingest or embed; by default engine.workers."""
    min_workers: Annotated[int, Field(ge=1)] | None = None
    """Workers at least, where their number follows the work."""
    max_workers: Annotated[int, Field(ge=1)] | None = None
    """Workers at most, where their number follows the work."""

    @field_validator("memory", mode="before")
    @classmethod
    def _bytes(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)B?\s*", value, re.IGNORECASE)
        if not found:
            raise ValueError(f"{value!r} is not an amount of memory, such as 4GB or 512MiB")
        return round(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " "))

    @model_validator(mode="after")
    def _workers_agree(self) -> StageResources:
        if self.workers is not None and (self.min_workers is not None or self.max_workers is not None):
            raise ValueError("workers is a fixed number: it goes together with neither min_workers nor max_workers")
        if self.min_workers is not None and self.max_workers is not None and self.min_workers > self.max_workers:
            raise ValueError(f"min_workers is {self.min_workers}, max_workers only {self.max_workers}")
        return self


class ResourcesConfig(Settings):
    """What the workers of each stage get."""

    ingest: StageResources = StageResources()
    embed: StageResources = StageResources()
    neighbors: StageResources = StageResources()
    project: StageResources = StageResources()
    cluster: StageResources = StageResources()
    label: StageResources = StageResources()
    publish: StageResources = StageResources()

    @model_validator(mode="after")
    def _only_shard_stages_have_workers(self) -> ResourcesConfig:
        for stage in ("neighbors", "project", "cluster", "label", "publish"):
            one: StageResources = getattr(self, stage)
            if one.workers or one.min_workers or one.max_workers:
                raise ValueError(f"{stage} runs in one worker: only ingest and embed have a number of workers")
        return self


# Names of variables that hold something which must be in no record and no log.
_SECRET_VARIABLE = re.compile(r"KEY|SECRET|TOKEN|PASS|CREDENTIAL|AUTH|COOKIE|SAS", re.IGNORECASE)


class EngineConfig(Settings):
    """What runs the shards."""

    name: Literal["local", "ray"] = "local"
    """This process, or a Ray cluster."""
    address: str | None = None
    """Of a Ray cluster: `auto`, host:port or ray://host:port; by default RAY_ADDRESS, else one is started here."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Ray actors for each shard stage; by default as many as the cluster has room for."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads for stages that use them; by default the processors that this process may use."""
    resources: ResourcesConfig = ResourcesConfig()
    """What the workers of a stage get: `{embed: {gpus: 1, memory: 8GB, workers: 4}}`; see docs/operations.md."""
    wait_seconds: Annotated[float, Field(gt=0)] = 300.0
    """How long to wait for resources of a cluster that others hold."""
    stall_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """The run is given up when no shard was finished for so long."""
    runtime_env: str | Mapping[str, Any] | None = None
    """Ray's runtime environment of the workers (working_dir, pip, env_vars …), or the YAML or JSON file with it."""
    pass_environment: tuple[str, ...] = ()
    """Names of environment variables whose values the workers get; the values are in no record."""

    @field_validator("address")
    @classmethod
    def _address_form(cls, value: str | None) -> str | None:
        if value is None or value in ("auto", "local"):
            return value
        if not re.fullmatch(r"(ray://)?(\[[0-9A-Fa-f:]+\]|[^\s:/@]+):[0-9]{1,5}", value):
            raise ValueError("an address is auto, host:port or ray://host:port")
        return value

    @field_validator("runtime_env")
    @classmethod
    def _no_secret_in_the_runtime_env(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            check_runtime_env(cast("Mapping[str, Any]", value))
        return value

    @field_validator("pass_environment")
    @classmethod
    def _names_of_variables(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # What is no name of a variable is perhaps a value: it is not repeated.
        if not all(_VARIABLE.match(name) and not _KEY.match(name) for name in value):
            raise ValueError("these are names of environment variables, not their values")
        return value


def check_runtime_env(values: Mapping[str, Any]) -> None:
    """Refuse a runtime environment that holds secrets: Ray shows it in its dashboard and its logs.

    Raises
    ------
    ValueError
        Naming the variable, never its value.
    """
    variables = values.get("env_vars", {})
    if not isinstance(variables, Mapping):
        raise ValueError("env_vars maps names of environment variables to their values")
    for name in cast("Mapping[str, Any]", variables):
        if _SECRET_VARIABLE.search(str(name)):
            raise ValueError(
                f"env_vars.{name} looks like a secret, which Ray would show in its dashboard and its logs: name the "
                "variable in engine.pass_environment instead"
            )


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
    update: UpdateConfig = UpdateConfig()
    engine: EngineConfig = EngineConfig()
    storage: StorageConfig = StorageConfig()

    @field_validator("out")
    @classmethod
    def _no_password(cls, value: str) -> str:
        _without_credentials(value)
        return value

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


_GROUPS = ("ingest", "embed", "neighbors", "project", "cluster", "label", "quality", "publish", "engine", "storage")


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
        return _with_corpus_storage(JobConfig.model_validate(values))
    except ValidationError as error:
        # The chain would print the values, and one of them may be a key that somebody put in the wrong place.
        raise _explain(error, where) from None


def _with_corpus_storage(job: JobConfig) -> JobConfig:
    """Give the corpus the workspace's way to the store, where both are reached by one protocol or only it is remote."""
    protocol = protocol_of(job.out)
    sources = {protocol_of(source) for source in job.corpus.sources}
    if job.corpus.storage is not None or not (protocol in sources if protocol else sources - {""}):
        return job
    return job.model_copy(update={"corpus": job.corpus.model_copy(update={"storage": job.storage})})


def protocol_of(url: str) -> str:
    """The protocol of a place, such as ``s3``; empty for a path."""
    protocol = url.partition("://")[0] if "://" in url else ""
    return {"s3a": "s3", "file": "", "local": ""}.get(protocol, protocol)


def parse_storage(values: Mapping[str, Any] | StorageConfig | None, *, where: str = "storage") -> StorageConfig:
    """Validate the settings of a store that came from the command line or from Python.

    Raises
    ------
    ConfigError
        Naming the first key that does not exist or the first value that cannot be.
    """
    if isinstance(values, StorageConfig):
        return values
    try:
        return StorageConfig.model_validate(dict(values or {}))
    except ValidationError as error:
        raise _explain(error, where, StorageConfig) from None


def storage_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` pairs of ``--storage`` as settings of a store; values are read as YAML.

    Raises
    ------
    ConfigError
        If one is not of that form. The value is not repeated: it may be a key.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, separator, _ = pair.partition("=")
        if not separator or not key.strip():
            raise ConfigError(
                f"--storage {key!r} is not of the form KEY=VALUE", hint="--storage endpoint_url=http://127.0.0.1:9000"
            )
        try:
            apply_overrides(values, [pair])
        except ConfigError:
            raise ConfigError(f"--storage {key}=…: the value cannot be read") from None
    return values


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


def _explain(error: ValidationError, where: str, model: type[BaseModel] | None = None) -> ConfigError:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        if _SECRET.match(str(first["loc"][-1]).lower()):
            return ConfigError(
                f"there is no setting {place!r}: keys and secrets have no place in settings",
                where=where,
                hint="Put it into an environment variable and name that: key_variable, secret_variable.",
            )
        known = _keys(first["loc"][:-1]) if model is None else list(model.model_fields)
        near = _elsewhere(first["loc"]) or difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}."
        return ConfigError(f"there is no setting {place!r}", where=where, hint=hint)
    if first["type"] == "missing":
        return ConfigError(
            f"the setting {place!r} is missing", where=where, hint="latentscale init shows all settings."
        )
    message = str(first["msg"]).removeprefix("Value error, ")
    # A value that belongs to a store is not repeated: somebody may have put a key there.
    silent = isinstance(first["input"], dict | BaseModel) or model is StorageConfig or "password" in message
    silent = silent or not {"storage", "pass_environment", "runtime_env"}.isdisjoint(first["loc"])
    given = "" if silent else f" (given: {first['input']!r})"
    return ConfigError(f"{place + ': ' if place else ''}{message}{given}", where=where)


def _model_at(parts: Sequence[int | str]) -> type[BaseModel]:
    model: type[BaseModel] = JobConfig
    for part in parts:
        field = model.model_fields.get(str(part))
        kind = None if field is None else next((k for k in _kinds(field.annotation) if issubclass(k, BaseModel)), None)
        if kind is None:
            break
        model = kind
    return model


def _kinds(annotation: Any) -> list[type]:
    """The classes of an annotation, those of a union one by one."""
    return [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]


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
