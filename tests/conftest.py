"""Shared fixtures: small real corpora, and workspaces made from them once per session."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import polars as pl
import pytest
from hypothesis import HealthCheck, settings

from latentscale.cli.main import GARBAGE_THRESHOLD
from latentscale.demo import corpus_path
from latentscale.storage.sealed import seal
from tests import in_memory
from tests.schedule import longest_first, scheduler

# Tests must not depend on what a developer has set.
for name in ("LATENTSCALE_DEBUG", "NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(name, None)
# By default Ray's workers give way to all other processes: beside other tests, on a busy machine, they would starve.
os.environ.update(RAY_worker_niceness="0")

# As the command line does: looked for as often as Python does by default, garbage takes a twentieth of these tests.
gc.set_threshold(GARBAGE_THRESHOLD)

# How long an example takes says something of the machine, and nothing of the code. A change is judged by the same
# examples as the one before it; `make explore` looks for new ones.
settings.register_profile("same", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("explore", settings.get_profile("same"), derandomize=False)
settings.load_profile("same")


def pytest_configure(config: pytest.Config) -> None:
    if "not slow" in config.option.markexpr:
        in_memory.begin()


def pytest_sessionfinish(exitstatus: int) -> None:
    if exitstatus:
        in_memory.keep()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    longest_first(items, slow=config.option.markexpr == "slow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return scheduler(config, log)


@pytest.fixture(scope="session")
def demo() -> pl.DataFrame:
    """The demo corpus."""
    return pl.read_parquet(corpus_path())


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """600 documents of six sections, as parquet."""
    sections = ["games", "perl", "science", "mail", "fonts", "electronics"]
    chosen = demo.filter(pl.col("section").is_in(sections)).sort("package").gather_every(2).head(600)
    path = tmp_path_factory.mktemp("corpus") / "packages.parquet"
    chosen.write_parquet(path)
    return path


def rewrite_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Write a JSON object of a workspace with other values, sealed as if it had always been so."""
    values = change({key: value for key, value in json.loads(path.read_text()).items() if key != "digest"})
    path.write_bytes(seal(values))


def moved(workspace: Path, before: Path, after: Path) -> None:
    """Let all records of a workspace name a corpus that was moved, as if it had always been there."""
    for path in [workspace / "workspace.json", *workspace.glob("runs/*/run.json"), *workspace.glob("maps/*/map.json")]:
        rewrite_json(path, lambda values: json.loads(json.dumps(values).replace(str(before), str(after))))


FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    # WebGL goes through SwiftShader; that all else of the page did too was half of what these tests cost.
    "--disable-gpu-rasterization",
    "--disable-gpu-compositing",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


def load(name: str, path: Path) -> ModuleType:
    """Import a module that belongs to no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def absent(what: str) -> NoReturn:
    """Skip on a developer's machine; in CI, where everything is installed, a missing browser is a failure."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def chromium_path() -> str:
    named = os.environ.get("LATENTSCALE_CHROMIUM")
    # The shell is the same browser without windows of its own to draw, and takes half the processor time.
    browsers = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    found = named or next(filter(None, map(shutil.which, browsers)), None)
    if found is None:
        absent("no Chromium on the PATH (apt-get install chromium-headless-shell); LATENTSCALE_CHROMIUM is not set")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, one for all tests of a process: Playwright runs once in a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # By default it gives up after half a minute, which a browser may take where eight of them start at once.
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS, timeout=300_000)
        yield browser
        browser.close()
