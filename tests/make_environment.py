"""Make an environment for tests of vLLM or of cuML: ``python -m tests.make_environment vllm``, as ``make vllm`` does.

From the lock file of that name in ``requirements``, into ``.venv``. Where it cannot be had (no wheels for this machine,
no network, too little disk) it says so, loudly, leaves the reason to the tests, which are skipped with it, and ends
well: the next call tries again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.environments import ROOT, absence_of, folder_of, stamp_of, variable_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What an environment takes.

    Attributes
    ----------
    gigabytes : float
        On the disk while it is made, with some to spare.
    torch : str or None
        The requirement of torch's build for processors: in no lock, as on Linux the registry has a CUDA build.
    """

    gigabytes: float
    torch: str | None = None


ENVIRONMENTS = {
    "vllm": Environment(gigabytes=5, torch="torch==2.13.0"),
    "cuml": Environment(gigabytes=7),
}


# A network on which it takes longer must not hold up all other tests.
LIMIT_SECONDS = 600


class AbsentError(Exception):
    """Why an environment cannot be had here."""


def run(*command: str) -> str:
    """Run a command; returns what it printed.

    Raises
    ------
    AbsentError
        With the end of its messages, or because it takes too long.
    """
    # A link of a file in the cache, which is beside the environment and dropped with its making: nothing is kept twice.
    environment = os.environ | {"UV_LINK_MODE": "hardlink"}
    what = " ".join(command[:3])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise AbsentError(f"{what} … was not done in {LIMIT_SECONDS} s") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise AbsentError(f"{what} … ended with {done.returncode}: …{said[-600:]}")
    return done.stdout


def check_disk(place: Path, needed: float) -> None:
    free = shutil.disk_usage(place).free / 1e9
    if free < needed:
        raise AbsentError(f"it takes {needed:g} GB of disk, and {free:.1f} GB are free")


def processors_torch(pip: tuple[str, ...], requirement: str) -> str:
    """The version of torch that pip would install.

    Raises
    ------
    AbsentError
        If that is not a build for processors, as on most machines: a CUDA build is several gigabytes.
    """
    report = json.loads(run(*pip, "install", "--quiet", "--dry-run", "--no-deps", "--report", "-", requirement))
    version = report["install"][0]["metadata"]["version"]
    if "+cpu" not in version:
        raise AbsentError(f"pip finds no build of torch for processors, but {version}")
    return version


def make(name: str) -> None:
    """Make an environment, or raise AbsentError."""
    wanted, folder = ENVIRONMENTS[name], folder_of(name)
    cache = folder.with_name(f"{name}-cache")
    python = str(folder / "bin" / "python")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        check_disk(folder.parent, wanted.gigabytes)
        uv = (str(Path(sys.executable).with_name("uv")), "--quiet", "--cache-dir", str(cache))
        run(*uv, "venv", "--python", sys.executable, str(folder))
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
        torch = processors_torch(pip, wanted.torch) if wanted.torch else None
        run(
            *(*uv, "pip", "install", "--python", python, "--no-deps", "--require-hashes", "--only-binary", ":all:"),
            *("-r", str(ROOT / "requirements" / f"{name}.lock")),
        )
        if torch:
            # By pip, as uv does not look everywhere where pip is told to look.
            run(*pip, "install", "--quiet", "--no-deps", "--no-cache-dir", f"torch=={torch}")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def main(name: str) -> None:
    if os.environ.get(variable_of(name)):
        print(f"{variable_of(name)} names an environment with {name}: none is made.")
        return
    began = time.monotonic()
    absence_of(name).unlink(missing_ok=True)
    stamp_of(name).unlink(missing_ok=True)
    try:
        make(name)
    except AbsentError as error:
        absence_of(name).write_text(str(error))
        line = "=" * 80
        print(f"{line}\nNO {name.upper()} HERE: its tests are skipped.\n{error}\n{line}", file=sys.stderr)
        return
    stamp_of(name).touch()
    print(f"The environment with {name}: {time.monotonic() - began:.0f} s, {folder_of(name)}")


if __name__ == "__main__":
    main(sys.argv[1])
