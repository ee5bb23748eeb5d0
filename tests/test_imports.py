"""Layering: imports go down, there are no cycles, and some packages are imported only in their own unit."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "latentscale"

# From the ground up: a unit imports only units before it.
UNITS = (
    "redaction",
    "file_names",
    "digest",
    "version",
    "demo",
    "errors",
    "machine",
    "registry",
    "config",
    "services",
    "models",
    "embedders",
    "backends",
    "quality",
    "viewer",
    "storage.remote",
    "storage",
    "labelers",
    "readers",
    "stages",
    "engines",
    "pipeline",
    "explore",
    "upkeep",
    "repair",
    "map",
    "workspace",
    "api",
    "cli",
)


def unit_of(module: str) -> str:
    parts = module.split(".")[1:]
    if not parts or parts == ["__main__"]:
        return "root"
    return "storage.remote" if parts[:2] == ["storage", "remote"] else parts[0]


@dataclass(frozen=True)
class Module:
    """What a module imports: anywhere in it, and where it is imported itself."""

    imports: list[str]
    at_the_top: list[str]


@cache
def modules() -> dict[str, Module]:
    found: dict[str, Module] = {}
    for path in sorted(ROOT.rglob("*.py")):
        if "node_modules" in path.parts:
            continue
        name = ".".join(["latentscale", *path.relative_to(ROOT).with_suffix("").parts])
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top: list[ast.stmt] = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        found[name.removesuffix(".__init__")] = Module(
            list(imports(tree)), list(imports(ast.Module(body=top, type_ignores=[])))
        )
    return found


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in a file, for types alone and inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_module(module: str, names: set[str]) -> str | None:
    """The module of the package that contains an imported name, or None."""
    while module and module not in names:
        module = module.rpartition(".")[0]
    return module or None


def test_imports_go_down_only() -> None:
    names = set(modules())
    upward: list[str] = []
    for module, found in modules().items():
        here = unit_of(module)
        if here == "root":
            continue
        for imported in {own_module(name, names) for name in found.imports if name.startswith("latentscale")} - {None}:
            there = unit_of(str(imported))
            # The root package is only its lazy public names.
            if there != here and (there == "root" or UNITS.index(there) > UNITS.index(here)):
                upward.append(f"{module} imports {imported}")
    # The command line is a user of the SDK: it starts from the public names.
    assert [one for one in upward if not one.startswith("latentscale.cli.")] == []


def test_every_unit_has_its_level() -> None:
    assert {unit_of(module) for module in modules()} - {"root"} == set(UNITS)


def test_no_module_is_in_a_cycle() -> None:
    names = set(modules())
    graph = {
        module: {own_module(name, names) for name in found.imports if name.startswith("latentscale.")} - {None, module}
        for module, found in modules().items()
    }
    # A package's own names come from its modules, which do not need the package.
    for module, targets in graph.items():
        graph[module] = {target for target in targets if not module.startswith(f"{target}.")} - {"latentscale"}
    state: dict[str, int] = defaultdict(int)
    path: list[str] = []

    def visit(module: str) -> None:
        state[module] = 1
        path.append(module)
        for target in sorted(str(one) for one in graph[module]):
            assert state[target] != 1, " -> ".join([*path[path.index(target) :], target])
            if not state[target]:
                visit(target)
        path.pop()
        state[module] = 2

    for module in sorted(graph):
        if not state[module]:
            visit(module)


def test_packages_stay_in_their_corner() -> None:
    corners = {
        "fsspec": ("latentscale.storage.remote",),
        "s3fs": ("latentscale.storage.remote",),
        "ray": ("latentscale.engines.ray", "latentscale.labelers.vllm", "latentscale.backends.torch.actors"),
        "torch": (
            "latentscale.models.distill",
            "latentscale.embedders.encoder",
            "latentscale.backends.torch",
            "latentscale.backends.cuml",
            "latentscale.labelers.transformers",
        ),
        "transformers": (
            "latentscale.models.distill",
            "latentscale.embedders.encoder",
            "latentscale.labelers.transformers",
        ),
        "vllm": ("latentscale.embedders.vllm", "latentscale.labelers.vllm"),
        "typer": ("latentscale.cli",),
        "cuml": ("latentscale.backends.cuml",),
        "cuvs": ("latentscale.backends.cuml",),
        "numba": ("latentscale.backends.cpu",),
        "pynndescent": ("latentscale.backends.cpu",),
        "hdbscan": ("latentscale.backends.cpu",),
    }
    astray = [
        f"{module} imports {name}"
        for module, found in modules().items()
        for name in found.imports
        for package, allowed in corners.items()
        if name.split(".")[0] == package and not module.startswith(allowed)
    ]
    assert astray == []


def test_stages_know_neither_engines_nor_a_backend_by_name() -> None:
    astray = [
        f"{module} imports {name}"
        for module, found in modules().items()
        if module.startswith(("latentscale.stages", "latentscale.storage"))
        for name in found.imports
        if name.startswith(("latentscale.engines", "latentscale.backends.cpu", "latentscale.embedders.static"))
    ]
    assert astray == []


def test_platform_specific_modules_are_imported_where_they_are_used() -> None:
    posix = {"resource", "fcntl", "pwd", "grp", "termios"}
    at_the_top = [
        f"{module} imports {name}"
        for module, found in modules().items()
        for name in found.at_the_top
        if name.split(".")[0] in posix and name.split(".")[0] in sys.stdlib_module_names
    ]
    assert at_the_top == []
