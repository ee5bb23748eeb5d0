"""Make a golden workspace: small, real, and kept as bytes, so that later versions are held to read it.

    python tests/golden/make_golden.py tests/golden/schema-3.tar.xz

It is made by the version that is imported, so that one of an earlier commit can be made too (`PYTHONPATH`). The corpus
is a part of the demo's. The workspace has a fit of which a shard was quarantined, rejects of ingest, a superseded and
an unreadable document, an update that adds and one that removes. What its maker saw of it is in `expected.parquet`;
the site's files are left out, since each version has its own.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

import latentscale as ls
from latentscale.demo import corpus_path
from latentscale.engines import Quarantined
from latentscale.engines.local import LocalEngine
from latentscale.errors import QuarantineError

# The same on every machine: records hold full paths.
ROOT = Path("/tmp/latentscale-golden")
SEEN = ["row_id", "package", "x", "y", "cluster", "label"]


def deadly(self: Any, make_worker: Any, tasks: Any, *, stage: str, **rest: Any) -> Iterator[Any]:
    """As the engine, but for one shard, which has killed its workers three times."""
    first, *others = tasks
    if stage == "embed":
        yield Quarantined(key=first.key, tries=3, reason="its worker died 3 times")
        tasks = others
    yield from WHOLE(self, make_worker, tasks, stage=stage, **rest)


WHOLE = LocalEngine.map_shards


def make(archive: Path) -> None:
    """Make the workspace and its archive."""
    shutil.rmtree(ROOT, ignore_errors=True)
    corpus = ROOT / "corpus"
    corpus.mkdir(parents=True)
    chosen = pl.read_parquet(corpus_path()).filter(pl.col("section").is_in(["games", "mail"])).sort("package")
    chosen = chosen.select("package", "section", pl.col("text").str.slice(0, 120))
    chosen[:45].write_ndjson(corpus / "a.jsonl")
    with (corpus / "a.jsonl").open("a") as file:
        file.write('not json\n{"package": "unreadable", "text": "日本語"}\n')
    settings: dict[str, Any] = {
        "corpus": {"where": "package NOT LIKE 'z%'"},
        "ingest": {"shard_rows": 15, "fingerprint": "content"},
        "project": {"n_epochs": 20},
        "cluster": {"min_cluster_size": 5},
    }
    LocalEngine.map_shards = deadly  # type: ignore[method-assign]
    with contextlib.suppress(QuarantineError):
        ls.run(corpus, out=ROOT / "ws", id="package", progress="quiet", **settings)
    LocalEngine.map_shards = WHOLE  # type: ignore[method-assign]
    workspace = ls.open(ROOT / "ws")
    chosen[40:52].write_ndjson(corpus / "b.jsonl")
    workspace.update()
    chosen[40:47].write_ndjson(corpus / "b.jsonl")
    workspace.update()
    current = workspace.current
    assert current is not None
    current.points().select(SEEN).collect().sort("row_id").write_parquet(ROOT / "expected.parquet")
    shutil.rmtree(ROOT / "ws/viewer/assets")
    (ROOT / "ws/viewer/index.html").unlink()
    with tarfile.open(archive, "w:xz") as tar:
        for path in sorted(path for path in ROOT.rglob("*") if path.is_file()):
            entry = tar.gettarinfo(path, path.relative_to(ROOT).as_posix())
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            with path.open("rb") as content:
                tar.addfile(entry, content)
    shutil.rmtree(ROOT)
    print(archive, archive.stat().st_size)


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute())
