"""What the fault tests share: the harness, and workspaces that no fault has touched."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness
import stores


@pytest.fixture(scope="session")
def grown_corpus(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> harness.Corpus:
    """A small corpus in several formats, and what becomes of it overnight."""
    return harness.Corpus(tmp_path_factory.mktemp("faults"), demo)


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory, grown_corpus: harness.Corpus) -> dict[str, harness.Reference]:
    """What `run`, and after it `update`, leave when nothing comes between."""
    return harness.references(tmp_path_factory.mktemp("whole"), grown_corpus)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], stores.Server]]:
    """Start each object store when it is first asked for."""
    running: dict[str, stores.Server] = {}
    with contextlib.ExitStack() as stack:

        def server(name: str) -> stores.Server:
            if name not in running:
                running[name] = stack.enter_context(stores.serving(name, tmp_path_factory.mktemp(name)))
            return running[name]

        yield server


@pytest.fixture(params=stores.NAMES)
def new_bucket(
    request: pytest.FixtureRequest, servers: Callable[[str], stores.Server], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], harness.Place]:
    """Make an empty place in each store; its keys are in the environment of this process and of its children."""
    server = servers(request.param)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server.new_place
