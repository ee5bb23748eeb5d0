"""The settings of a job: one frozen model a stage, and the only source of defaults."""

from latentscale.config.base import Settings
from latentscale.config.corpus import CorpusConfig
from latentscale.config.engine import EngineConfig, ResourcesConfig, StageResources
from latentscale.config.job import NAME, READ_SCHEMAS, SCHEMA_VERSION, JobConfig, job_model, setting_groups
from latentscale.config.load import (
    apply_overrides,
    check_job_file,
    parse_job,
    parse_storage,
    read_yaml,
    storage_overrides,
    varied_settings,
)
from latentscale.config.paths import relative_to_file
from latentscale.config.secrets import check_runtime_env
from latentscale.config.stages import (
    ClusterConfig,
    DriftConfig,
    EmbedConfig,
    IngestConfig,
    LabelConfig,
    NeighborsConfig,
    ProjectConfig,
    PublishConfig,
    QualityConfig,
    UpdateConfig,
)
from latentscale.config.store import StorageConfig, protocol_of
from latentscale.config.typed import JobSettings, PublishSettings, StageSettings, UpdateSettings

__all__ = [
    "NAME",
    "READ_SCHEMAS",
    "SCHEMA_VERSION",
    "ClusterConfig",
    "CorpusConfig",
    "DriftConfig",
    "EmbedConfig",
    "EngineConfig",
    "IngestConfig",
    "JobConfig",
    "JobSettings",
    "LabelConfig",
    "NeighborsConfig",
    "ProjectConfig",
    "PublishConfig",
    "PublishSettings",
    "QualityConfig",
    "ResourcesConfig",
    "Settings",
    "StageResources",
    "StageSettings",
    "StorageConfig",
    "UpdateConfig",
    "UpdateSettings",
    "apply_overrides",
    "check_job_file",
    "check_runtime_env",
    "job_model",
    "parse_job",
    "parse_storage",
    "protocol_of",
    "read_yaml",
    "relative_to_file",
    "setting_groups",
    "storage_overrides",
    "varied_settings",
]
