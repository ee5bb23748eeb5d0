"""What a command says and records of the files that it found."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from latentscale.cli.main import main
from latentscale.config import CorpusConfig, IngestConfig
from latentscale.stages.ingest.plan import stage_digest


def command(*words: str | Path) -> int:
    """The exit code of a command, in this process."""
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    signal.signal(signal.SIGTERM, handler)
    return int(ended.value.code or 0)


def test_unread_files_are_listed_at_the_end_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "data.json").write_text(json.dumps([{"text": f"text {i}"} for i in range(12)]))
    (folder / "README.md").write_text("# About")
    (folder / "x.docx").write_bytes(b"x")
    assert command("ingest", folder, "--text", "text", "--out", tmp_path / "map", "--progress", "json") == 0
    said = capsys.readouterr()
    assert "documents  12 in" in said.out
    assert "not read   1 .docx (x.docx), 1 .md beside other files (README.md)" in said.out
    assert any("not read: 1 .docx" in json.loads(line).get("text", "") for line in said.err.splitlines())
    (record,) = (tmp_path / "map/runs").glob("*/run.json")
    assert json.loads(record.read_text())["facts"]["unread"] == [
        {"kind": ".docx", "files": 1, "example": "x.docx"},
        {"kind": ".md beside other files", "files": 1, "example": "README.md"},
    ]


def test_a_workspace_inside_its_corpus_is_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("text\n" + "".join(f"text {i}\n" for i in range(12)))
    for _ in range(2):
        assert command("ingest", ".", "--text", "text", "--out", "map") == 0
        assert "documents  12 in 1 shards" in capsys.readouterr().out
    assert len(list((tmp_path / "map/documents").glob("*/*.parquet"))) == 1


def test_settings_that_came_later_change_no_identity_by_their_defaults():
    def identity(**more: object) -> str:
        return stage_digest(CorpusConfig(sources=("x",), **more), IngestConfig())  # type: ignore[arg-type]

    assert identity() == identity(max_expansion=7, max_zstd_window=1 << 30, follow_links=True)
    assert identity() != identity(sheet="x")
