"""The environment of the workers of a Ray cluster: variables, packages and images, for all stages and for one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from latentscale.config import EngineConfig, StageResources, check_runtime_env
from latentscale.config.text import load_yaml
from latentscale.engines.resources import GLOBAL_STAGES, SHARD_STAGES
from latentscale.errors import ConfigError

# What Ray 2.60 allows with an image; everything else belongs into the image.
BESIDE_IMAGE = {"image_uri", "env_vars", "config"}


def passed_environment(config: EngineConfig) -> dict[str, str]:
    """The values of the variables that ``engine.pass_environment`` names.

    Raises
    ------
    ConfigError
        Naming a variable that is not set.
    """
    missing = [name for name in config.pass_environment if name not in os.environ]
    if missing:
        raise ConfigError(
            f"engine.pass_environment names {', '.join(missing)}, which is not set here",
            hint="Set it, or take its name away.",
        )
    return {name: os.environ[name] for name in config.pass_environment}


def read_runtime_env(config: EngineConfig) -> dict[str, Any] | None:
    """Read ``engine.runtime_env``: the settings themselves, or the YAML or JSON file that is named.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds a variable that looks like a secret.
    """
    return _read(config.runtime_env, "engine.runtime_env")


def stage_runtime_env(config: EngineConfig, stage: str) -> dict[str, Any]:
    """Read the runtime environment of one stage, its image in it; Ray merges it with that of the whole run.

    Ray joins ``env_vars`` by name; any other field of the stage replaces that of the run.

    Raises
    ------
    ConfigError
        As ``read_runtime_env``; or if something is set that Ray does not allow with an image.
    """
    asked: StageResources = getattr(config.resources, stage)
    where = f"engine.resources.{stage}"
    found = _read(asked.runtime_env, f"{where}.runtime_env") or {}
    if asked.image is not None:
        if found.get("image_uri", asked.image) != asked.image:
            raise ConfigError(f"{where}.runtime_env names another image_uri than {where}.image", hint="Leave it out.")
        found["image_uri"] = asked.image
    if "image_uri" in found:
        refuse_with_image(found, where)
        refuse_with_image(read_runtime_env(config) or {}, f"engine.runtime_env, which {where} inherits")
    return found


def refuse_with_image(values: Mapping[str, Any], where: str) -> None:
    """Refuse what Ray does not allow with a container image.

    Raises
    ------
    ConfigError
    """
    wrong = sorted(key for key in set(values) - BESIDE_IMAGE if values[key] and not key.startswith("_"))
    if wrong:
        raise ConfigError(
            f"with an image, Ray accepts only env_vars and config, not {', '.join(wrong)}",
            where=where,
            hint="Build it into the image, and leave it out here.",
        )


def check_environments(config: EngineConfig) -> None:
    """Refuse invalid environments, of the run and of each stage, before any work.

    Raises
    ------
    ConfigError
    """
    passed_environment(config)
    read_runtime_env(config)
    for stage in (*SHARD_STAGES, *GLOBAL_STAGES):
        stage_runtime_env(config, stage)


def _read(given: str | Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    if given is None or not isinstance(given, str):
        return None if given is None else dict(given)
    try:
        # JSON is YAML.
        values = load_yaml(Path(given).read_text(encoding="utf-8"), where=given)
    except (OSError, UnicodeDecodeError) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise ConfigError(f"cannot read {name} {given}: {text}") from error
    except ConfigError as error:
        raise ConfigError(f"cannot read {name} {given}: {error.message}", where=given) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{name} {given} holds no settings")
    try:
        check_runtime_env(cast("dict[str, Any]", values))
    except ValueError as error:
        raise ConfigError(str(error), where=given) from error
    return cast("dict[str, Any]", values)
