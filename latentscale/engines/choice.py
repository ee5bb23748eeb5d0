"""The engine of a run where the settings leave it open: that of the Ray job that the process is, else this machine."""

from __future__ import annotations

import json
import os

from latentscale.config import EngineConfig

# Ray sets it in the environment of every submitted job.
_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def submitted_job() -> str | None:
    """The id under which `ray job submit` started this process, if it did."""
    try:
        return str(json.loads(os.environ[_JOB])["metadata"]["job_submission_id"])
    except (KeyError, TypeError, ValueError):
        return None


def chosen_engine(config: EngineConfig) -> tuple[EngineConfig, str | None]:
    """Settings with ``auto`` resolved, and the sentence that says so where it is not the usual engine.

    Returns
    -------
    config : EngineConfig
        Named ``ray`` where an address is given or this process is a submitted Ray job, whose cluster is then the one
        that is used; else ``local``.
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
