from __future__ import annotations

import io
import json

import pytest

import latentscale.observe as observe
from latentscale.observe import Observer


def test_progress_is_json_lines_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "JSON_INTERVAL", 0.0)
    stream = io.StringIO()
    seen = Observer("auto", stream)
    with seen.stage("embed", total=100) as progress:
        progress.advance(40)
        progress.advance(20)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["stage started", "progress", "progress", "stage done"]
    assert lines[2]["done"] == 60
    assert lines[2]["per_second"] > 0
    assert lines[2]["seconds_left"] >= 0
    assert [event["event"] for event in seen.events] == ["stage started", "stage done"]


def test_a_stage_that_fails_is_not_called_done() -> None:
    seen = Observer("quiet", io.StringIO())
    with pytest.raises(ValueError, match="no"), seen.stage("embed"):
        raise ValueError("no")
    assert [event["event"] for event in seen.events] == ["stage started"]


def test_text_from_a_corpus_is_never_markup_on_a_terminal() -> None:
    stream = io.StringIO()
    seen = Observer("terminal", stream)
    seen.note("[bold red]a title[/bold red]")
    assert "[bold red]a title[/bold red]" in stream.getvalue()
