"""The cache of compiled code: kept, shared, damaged, forbidden."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Compiles the smallest kernel and says how often the cache answered.
PROGRAM = """
import numpy as np
from latentscale.backends.cpu.compiled import cache_folder, cache_note
from latentscale.backends.cpu.neighbor_kernels import merge_top_k
indices, best = np.zeros((1, 2), np.int32), np.full((1, 2), -1.0, np.float32)
merge_top_k(np.array([[0.5, 0.9, 0.1]], np.float32), 7, indices, best)
assert indices.tolist() == [[8, 7]], indices
print(sum(merge_top_k.stats.cache_hits.values()), cache_folder(), cache_note(), sep="|")
"""


def start(folder, **more):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), **more},
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    hits, folder, note = out.strip().split("|")
    return int(hits), folder, note


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    assert finish(start(folder))[0] == 0
    return folder


@pytest.fixture
def warm(filled, tmp_path):
    """A cache folder that holds the kernel."""
    return Path(shutil.copytree(filled, tmp_path / "warm"))


def test_a_second_process_does_not_compile(warm):
    hits, folder, note = finish(start(warm))
    assert hits == 1
    assert folder.startswith(str(warm))
    assert note == "None"


def test_a_user_s_cache_folder_is_used_without_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    program = "from latentscale.backends.cpu.compiled import cache_folder; print(cache_folder())"
    out = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    if sys.platform == "linux":
        assert out.startswith(f"{tmp_path}/latentscale/compiled/")
        assert Path(out).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("kind", "damage"), [("nbc", "flip"), ("nbc", "cut"), ("nbi", "empty"), ("sha256", "flip")])
def test_a_damaged_entry_is_compiled_again_and_replaced(warm, kind, damage):
    files = list(warm.rglob(f"*.{kind}"))
    assert files
    for path in files:
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
        path.write_bytes({"cut": content[:middle], "flip": flipped, "empty": b""}[damage])
    assert finish(start(warm))[0] in (0, 1)  # a flipped byte of an index may leave it readable
    assert finish(start(warm))[0] == 1


def test_two_processes_may_warm_the_cache_at_once(tmp_path):
    both = [start(tmp_path), start(tmp_path)]
    for process in both:
        finish(process)
    assert finish(start(tmp_path))[0] == 1


def test_a_cache_folder_that_cannot_be_created_is_replaced_and_reported(tmp_path):
    (tmp_path / "file").write_text("in the way")
    hits, folder, note = finish(start(tmp_path / "file"))
    assert hits == 0
    assert not folder.startswith(str(tmp_path / "file"))
    assert "set NUMBA_CACHE_DIR" in note
    assert not Path(folder).exists()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_still_read(warm):
    folders = [warm, *(path for path in warm.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o500)
    try:
        hits, _, note = finish(start(warm))
    finally:
        for path in folders:
            path.chmod(0o700)
    assert hits == 1
    assert "cannot be kept" in note


def test_importing_a_library_leaves_numba_as_it_was():
    from numba.core.dispatcher import Dispatcher

    from latentscale.backends.cpu.compiled import import_cached

    before = Dispatcher.enable_caching
    import_cached("pynndescent")
    assert Dispatcher.enable_caching is before
    with pytest.raises(ImportError):
        import_cached("no_such_library_of_ours")
    assert Dispatcher.enable_caching is before
