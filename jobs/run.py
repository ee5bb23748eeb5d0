"""Run a job file, as the entry point of `ray job submit`: python run.py job.yaml [--set project.n_neighbors=30].

Arguments, settings, messages and exit codes are those of `latentscale run`. Within a Ray job the engine is Ray and the
cluster the job's own, unless the job file or an option says otherwise.
"""

from __future__ import annotations

import os
import sys

from latentscale.cli.main import main
from latentscale.config import read_yaml
from latentscale.errors import LatentScaleError

# Ray sets it in the environment of every submitted job.
INSIDE_A_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
ENGINE_OPTIONS = ("--engine", "--address")


def arguments_of_the_command(given: list[str]) -> list[str]:
    """The arguments of `latentscale` for those of this script."""
    if INSIDE_A_RAY_JOB not in os.environ or names_an_engine(given):
        return ["run", *given]
    return ["run", *given, "--address", "auto"]


def names_an_engine(given: list[str]) -> bool:
    """Whether an option or the job file says what engine to take."""
    if any(word.partition("=")[0] in ENGINE_OPTIONS for word in given):
        return True
    settings = [word.partition("=")[2] if word.startswith("--set=") else word for word in given]
    if any(word.startswith(("engine.name=", "engine.address=")) for word in settings):
        return True
    for word in given:
        if word.lower().endswith((".yaml", ".yml")) and not word.startswith("-"):
            try:
                engine = read_yaml(word).get("engine") or {}
            except LatentScaleError:
                return False  # the command says it
            return bool({"name", "address"} & set(engine))
    return False


if __name__ == "__main__":
    main(arguments_of_the_command(sys.argv[1:]))
