"""What the fault tests share: the harness, and workspaces that no fault has touched."""

from __future__ import annotations

import importlib.util
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness


@pytest.fixture(scope="session")
def grown_corpus(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> harness.Corpus:
    """A small corpus in several formats, and what becomes of it overnight."""
    return harness.Corpus(tmp_path_factory.mktemp("faults"), demo)


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory, grown_corpus: harness.Corpus) -> dict[str, harness.Reference]:
    """What `run`, and after it `update`, leave when nothing comes between."""
    return harness.references(tmp_path_factory.mktemp("whole"), grown_corpus)


def load(name: str, path: Path) -> ModuleType:
    """Import a module that belongs to no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Start the object stores of ``tests/s3``, each when it is first asked for."""
    s3 = load("s3_servers", Path(__file__).parents[1] / "s3" / "conftest.py")
    yield from s3.servers.__wrapped__(tmp_path_factory)


@pytest.fixture(params=["swift", "moto"])
def new_bucket(
    request: pytest.FixtureRequest, stores: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], harness.Place]:
    """Make an empty place in each store; its keys are in the environment of this process and of its children."""
    server = stores(request.param)
    s3 = sys.modules["s3_servers"]
    environment = harness.credentials(server.key, server.secret)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def make() -> harness.Place:
        bucket = f"bucket-{uuid.uuid4().hex[:12]}"
        s3.client(server).create_bucket(Bucket=bucket)
        storage = {"endpoint_url": server.endpoint, "region": "us-east-1"}
        return harness.Place(f"s3://{bucket}/map", storage, environment)

    return make
