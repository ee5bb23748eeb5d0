"""The command line calls only the SDK, and modules that inspect a workspace are below the SDK."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import latentscale

PACKAGE = Path(latentscale.__file__).parent
# The registry holds names and imports nothing: the commands of the stages are made from it.
ALLOWED = ("registry", "workspace", "errors", "file_names", "redaction", "version", "config", "cli")


def imported(path: Path) -> Iterator[str]:
    """All modules that a file imports anywhere: at its top, in functions, for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (PACKAGE / folder).rglob("*.py"))


def is_module(name: str) -> bool:
    path = PACKAGE.parent / name.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@pytest.mark.parametrize("path", modules("cli"), ids=lambda path: path.stem)
def test_a_command_imports_nothing_below_the_sdk(path: Path) -> None:
    names = [name for name in imported(path) if name.startswith("latentscale.") and is_module(name)]
    assert [name for name in names if name.split(".")[1] not in ALLOWED] == []


def test_the_commands_do_import_the_sdk() -> None:
    assert {"latentscale", "latentscale.workspace"} <= {name for path in modules("cli") for name in imported(path)}


@pytest.mark.parametrize("path", modules("explore", "upkeep", "storage"), ids=lambda path: path.stem)
def test_modules_that_inspect_a_workspace_get_a_store_and_records(path: Path) -> None:
    above = ("latentscale.workspace", "latentscale.map", "latentscale.api", "latentscale.cli", "latentscale.pipeline")
    assert [name for name in imported(path) if name.startswith(above)] == []


POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


@pytest.mark.parametrize("path", modules("."), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_module_needs_a_posix_system_to_be_imported(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in top if isinstance(node, ast.ImportFrom) and node.module}
    assert not {name.split(".")[0] for name in names} & POSIX_ONLY
