"""What all tests share: small real corpora, and workspaces made from them once a session."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import polars as pl
import pytest

from latentscale.demo import corpus_path

# Tests must not depend on what a developer has set.
for name in ("LATENTSCALE_DEBUG", "NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(name, None)


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


FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
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
    found = named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        absent("no Chromium on the PATH (apt-get install chromium), and LATENTSCALE_CHROMIUM is not set")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, one for all tests of a process: Playwright runs once in a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield browser
        browser.close()
