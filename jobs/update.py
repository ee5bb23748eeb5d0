"""Update a map, as the entry point of `ray job submit`: python update.py WORKSPACE [--refit] [--set embed.…=…].

Arguments, settings, messages and exit codes are those of `latentscale update`. Within a Ray job the engine is Ray and
the cluster the job's own, unless an option says otherwise.
"""

from __future__ import annotations

import os
import sys

from latentscale.cli.main import main

# Ray sets it in the environment of every submitted job.
INSIDE_A_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def arguments_of_the_command(given: list[str]) -> list[str]:
    """The arguments of `latentscale` for those of this script."""
    if INSIDE_A_RAY_JOB not in os.environ or names_an_engine(given):
        return ["update", *given]
    return ["update", *given, "--address", "auto"]


def names_an_engine(given: list[str]) -> bool:
    """Whether an option says what engine to take."""
    return any(word.partition("=")[0] in ("--engine", "--address") for word in given)


if __name__ == "__main__":
    main(arguments_of_the_command(sys.argv[1:]))
