"""A whole job: corpus, workspace and the settings of each stage."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pydantic import create_model, field_validator, model_validator

from latentscale.config.base import Settings
from latentscale.config.corpus import CorpusConfig
from latentscale.config.engine import EngineConfig
from latentscale.config.secrets import without_credentials
from latentscale.config.stages import (
    ClusterConfig,
    EmbedConfig,
    IngestConfig,
    LabelConfig,
    NeighborsConfig,
    ProjectConfig,
    PublishConfig,
    QualityConfig,
    UpdateConfig,
)
from latentscale.config.store import StorageConfig
from latentscale.registry import settings_of_plugins

SCHEMA_VERSION = 3
"""Of the JSON objects of a workspace; raised when an earlier version could misread what this one writes."""
READ_SCHEMAS = (2, SCHEMA_VERSION)
"""Those that this version reads and grows; others are migrated."""

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$")


class JobConfig(Settings):
    """A whole job: corpus, workspace and the settings of each stage."""

    corpus: CorpusConfig
    """The corpus: sources, format and selection."""
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
    def _writable(cls, value: str) -> str:
        without_credentials(value)
        if value.lower().startswith(("http://", "https://")):
            raise ValueError("nothing can be written over HTTP: name a folder, or a bucket (s3://…)")
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
            raise ValueError(
                f"embed.model 'column' and corpus.vectors go together: they are {self.embed.model!r} and "
                f"{self.corpus.vectors or 'not set'!r}; set both for vectors of the corpus, or neither"
            )
        if self.project.preview and not self.publish.viewer:
            raise ValueError("project.preview shows a page, and publish.viewer is false: leave one of them out")
        return self


@cache
def job_model() -> type[JobConfig]:
    """The model of a job, with the groups of settings that stages of other packages add."""
    groups = settings_of_plugins()
    if not groups:
        return JobConfig
    added: dict[str, Any] = {name: (model, model()) for name, model in groups.items()}
    return create_model("JobConfig", __base__=JobConfig, __doc__=JobConfig.__doc__, **added)


def setting_groups() -> tuple[str, ...]:
    """The groups of settings of a job that a run's record keeps for the next one: all but the corpus."""
    return tuple(
        name
        for name, field in job_model().model_fields.items()
        if name != "corpus" and isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
    )
