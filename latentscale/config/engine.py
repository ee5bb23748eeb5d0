"""Settings of the engine, and the resources of its workers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import Field, create_model, field_validator, model_validator

from latentscale.config.base import Settings
from latentscale.config.secrets import KEY, VARIABLE, check_runtime_env
from latentscale.registry import resources_of, stages

# Stages over the whole set that share their work out where workers are asked for.
IN_SHARDS = ("neighbors",)


def amount_of_memory(value: Any) -> Any:
    """Bytes of a text such as "4GB" or "512MiB"; what is no text stays as it is.

    Raises
    ------
    ValueError
        If the text is no amount of memory.
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(i?)B?\s*", value, re.IGNORECASE)
    if not found:
        raise ValueError(f"{value!r} is not an amount of memory, such as 4GB or 512MiB")
    return round(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " "))


class StageResources(Settings):
    """Resources of one worker of a stage, and the number of workers."""

    cpus: Annotated[float, Field(ge=0, le=10_000)] | None = None
    """CPUs; by default 1 for a worker of ingest or embed, and those of the largest node for the other stages."""
    gpus: Annotated[float, Field(ge=0, le=1_000)] | Literal["auto"] | None = None
    """GPUs; a fraction lets several workers share one. `auto`: one if the cluster has any, else none. By default
    what the stage's model or backend needs."""
    memory: Annotated[int, Field(ge=0, le=1 << 50)] = 0
    """Memory that Ray reserves, in bytes or as text such as "4GB"; 0 reserves none."""
    custom: Mapping[str, Annotated[float, Field(gt=0, le=1e9)]] = {}
    """Amounts of Ray's custom resources, by name."""
    workers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Workers of ingest or embed, by default engine.workers; for neighbors, workers that each hold some vectors."""
    min_workers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Minimum workers when autoscaling."""
    max_workers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Maximum workers when autoscaling."""
    runtime_env: str | Mapping[str, Any] | None = None
    """Ray runtime environment of this stage's workers, over engine.runtime_env; or a YAML or JSON file with it."""
    image: str | None = None
    """Container image of this stage's workers on Ray; with it, runtime_env holds only env_vars and config."""

    @field_validator("memory", mode="before")
    @classmethod
    def _bytes(cls, value: Any) -> Any:
        return amount_of_memory(value)

    @field_validator("runtime_env")
    @classmethod
    def _no_secret_in_the_runtime_env(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            check_runtime_env(cast("Mapping[str, Any]", value))
        return value

    @field_validator("image")
    @classmethod
    def _image_form(cls, value: str | None) -> str | None:
        # A registry and its port, a repository, a tag or a digest; no scheme and no user.
        if value is not None and not re.fullmatch(r"(?!.*//)[A-Za-z0-9][\w.\-/:]*(@sha256:[0-9a-f]{64})?", value):
            raise ValueError("an image is registry/repository:tag or registry/repository@sha256:digest")
        return value

    @model_validator(mode="after")
    def _workers_agree(self) -> StageResources:
        if self.workers is not None and (self.min_workers is not None or self.max_workers is not None):
            raise ValueError("workers is a fixed number: it goes together with neither min_workers nor max_workers")
        if self.min_workers is not None and self.max_workers is not None and self.min_workers > self.max_workers:
            raise ValueError(f"min_workers is {self.min_workers}, max_workers only {self.max_workers}")
        return self


class _Resources(Settings):
    """Resources of the workers of each stage."""

    def of(self, stage: str) -> StageResources:
        """The resources of a stage's workers; a stage without its own has those of another."""
        return getattr(self, resources_of(stage))

    @model_validator(mode="after")
    def _only_shard_stages_have_workers(self) -> _Resources:
        for entry in stages():
            if entry.unit != "shard" and entry.resources is None:
                one = self.of(entry.name)
                if one.min_workers or one.max_workers or (one.workers and entry.name not in IN_SHARDS):
                    able = ", ".join(("ingest", "embed", *IN_SHARDS))
                    raise ValueError(f"{entry.name} runs in one worker: only {able} have a number of workers")
        return self


# A field for each stage that is installed, those of other packages too.
_FIELDS: Any = {entry.name: (StageResources, StageResources()) for entry in stages() if entry.resources is None}
ResourcesConfig: type[_Resources] = create_model(
    "ResourcesConfig", __base__=_Resources, __doc__=_Resources.__doc__, **_FIELDS
)


class EngineConfig(Settings):
    """The engine that runs the stages."""

    name: Literal["auto", "local", "ray"] = "auto"
    """`local`: this machine; `ray`: a Ray cluster; `auto`: `ray` with an address and in a submitted Ray job."""
    address: str | None = None
    """Ray cluster: `auto`, host:port or ray://host:port; by default RAY_ADDRESS, else a local one is started."""
    workers: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Workers of ingest and embed (processes or Ray actors); by default as many as fit."""
    threads: Annotated[int, Field(ge=1, le=1_024)] | None = None
    """Threads of multithreaded stages; by default the CPUs that this process may use."""
    memory: Annotated[int, Field(ge=0, le=1 << 50)] = 0
    """Memory limit of a job on this machine, in bytes or as text such as "8GB"; 0: the free memory. A job that would
    need more, by the estimate of `latentscale plan`, is refused before it starts."""
    resources: ResourcesConfig = ResourcesConfig()  # pyright: ignore[reportInvalidTypeForm]
    """Resources of a stage's workers: `{embed: {gpus: 1, memory: 8GB, workers: 4}}`; see docs/operations.md."""
    on_shortage: Literal["refuse", "warn"] = "refuse"
    """When memory or disk are too small for the job, by the estimate of `latentscale plan`: refuse it before it starts,
    or warn and try."""
    wait_seconds: Annotated[float, Field(gt=0, le=31_536_000)] = 300.0
    """Seconds to wait for resources of a busy cluster."""
    stall_seconds: Annotated[float, Field(gt=0, le=31_536_000)] = 3600.0
    """The run fails when no shard finishes for so many seconds."""
    runtime_env: str | Mapping[str, Any] | None = None
    """Ray runtime environment of the workers (working_dir, pip, env_vars …), or a YAML or JSON file with it."""
    pass_environment: tuple[str, ...] = ()
    """Names of environment variables that are passed to the workers; their values are not recorded."""

    @field_validator("memory", mode="before")
    @classmethod
    def _bytes(cls, value: Any) -> Any:
        return amount_of_memory(value)

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
        if not all(VARIABLE.match(name) and not KEY.match(name) for name in value):
            raise ValueError("these are names of environment variables, not their values")
        return value
