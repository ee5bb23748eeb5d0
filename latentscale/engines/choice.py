"""Resolve ``engine.name: auto``: Ray in a submitted Ray job, else the local engine."""

from __future__ import annotations

import json
import os

from latentscale.config import EngineConfig

# Ray sets this variable in every submitted job.
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def submitted_job() -> str | None:
    """Return the submission id if `ray job submit` started this process, else None."""
    try:
        return str(json.loads(os.environ[_JOB])["metadata"]["job_submission_id"])
    except (KeyError, TypeError, ValueError):
        return None


def chosen_engine(config: EngineConfig) -> tuple[EngineConfig, str | None]:
    """Resolve ``auto``, with a notice if the result is not the local engine.

    Returns
    -------
    config : EngineConfig
        With the name ``ray`` if an address is given, or if this process is a submitted Ray job, whose cluster is then
        used; else ``local``.
    notice : str or None
    """
    if config.name != "auto":
        return config, None
    if config.address is not None:
        return config.model_copy(update={"name": "ray"}), None
    job = submitted_job()
    if job is None:
        return config.model_copy(update={"name": "local"}), None
    chosen = config.model_copy(update={"name": "ray", "address": "auto"})
    return chosen, f"engine: ray, on the cluster of this Ray job, {job}; --engine local takes this node alone"
