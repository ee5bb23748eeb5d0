from __future__ import annotations

import contextlib
import io
import json
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import latentscale.pipeline.observe as observe
from latentscale.errors import ConfigError, LatentScaleError, QuarantineError, StorageError
from latentscale.pipeline.observe import Observer


def test_progress_is_json_lines_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "JSON_INTERVAL", 0.0)
    stream = io.StringIO()
    seen = Observer("json", stream)
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


def test_a_log_gets_a_few_lines_and_programs_get_every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    # However long this process waits for the processor.
    monkeypatch.setattr(observe, "PLAIN_LINE", math.inf)
    monkeypatch.setattr(observe, "PLAIN_INTERVAL", math.inf)
    stream = io.StringIO()
    seen = Observer("auto", stream)
    assert seen.mode == "plain"
    with seen.watched():
        seen.begin("run-1", "maps/x")
        for stage in ("ingest", "embed", "neighbors"):
            with seen.stage(stage) as progress:
                progress.advance(1_200)
        seen.note("exact search")
        with seen.stage("project", unit="steps") as progress:
            progress.reach(200, 200)
        seen.finish(map="map-1")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5, lines
    assert lines[0].endswith("run run-1 in maps/x")
    assert [word.split()[0] for word in lines[1].split(" · ")] == ["ingest", "embed", "neighbors"]
    assert "1,200 rows" in lines[1]
    assert lines[2] == "  note: exact search"
    assert lines[4].endswith("map-1 in maps/x")
    assert {event["run"] for event in seen.events} == {"run-1"}
    assert seen.events[-1]["event"] == "run done"
    assert seen.events[-1]["exit_code"] == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no", hint="yes"), 2),
        (StorageError("no"), 4),
        (QuarantineError("no"), 3),
        (KeyboardInterrupt(), 130),
        (ValueError("https://x.org/?X-Amz-Signature=canary"), 1),
    ],
)
def test_every_run_ends_with_one_event_with_its_exit_code(error: BaseException, code: int) -> None:
    stream = io.StringIO()
    seen = Observer("json", stream)
    with pytest.raises(type(error)), seen.watched("maps/x"), seen.watched():
        raise error
    (last,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (last["event"], last["exit_code"], last["workspace"]) == ("run failed", code, "maps/x")
    assert last["kind"] == type(error).__name__
    assert "canary" not in stream.getvalue()


def events_of(work: Callable[[Observer], None], error: type[BaseException]) -> list[dict[str, Any]]:
    """The events that are shown of work that ends with an error."""
    stream = io.StringIO()
    seen = Observer("json", stream)
    with pytest.raises(error), seen.watched():
        work(seen)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_failures_after_the_end_of_a_run_are_not_failures_of_the_run() -> None:
    def work(seen: Observer) -> None:
        with seen.watched():
            seen.begin("run-1", "maps/x")
            seen.finish(quarantined=2)
        raise BrokenPipeError

    shown = events_of(work, BrokenPipeError)
    assert [event["event"] for event in shown] == ["run started", "run done"]
    assert shown[-1]["exit_code"] == 3


def test_a_run_that_cannot_be_recorded_is_not_called_done() -> None:
    def work(seen: Observer) -> None:
        seen.begin("run-1", "maps/x")
        seen.finish()
        raise StorageError("the disk is full")

    assert [event["event"] for event in events_of(work, StorageError)] == ["run started", "run failed"]


def test_a_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="plain, json, quiet"):
        Observer("none")  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------------------------------------------------- prometheus


def observed(path: Path, *, error: Exception | None = None) -> dict[str, float]:
    """The samples of the metrics file of one run."""
    seen = Observer("quiet", metrics_file=path)
    with contextlib.suppress(LatentScaleError), seen.watched('maps/"x"\\'):
        seen.begin("run-1", 'maps/"x"\\')
        with seen.stage("embed") as progress:
            progress.advance(70)
        if error is not None:
            raise error
        seen.finish(map="map-1", documents=70, refit_due=False, added=None)
    families = list(text_string_to_metric_families(path.read_text()))
    assert all(family.type == "gauge" and family.documentation for family in families)
    samples = [sample for family in families for sample in family.samples]
    assert {sample.labels["workspace"] for sample in samples} == {'maps/"x"\\'}
    return {sample.name: sample.value for sample in samples}


def test_the_metrics_file_is_one_of_prometheus_and_keeps_the_last_success(tmp_path: Path) -> None:
    path = tmp_path / "latentscale.prom"
    first = observed(path)
    assert first["latentscale_run_exit_code"] == 0
    assert first["latentscale_documents"] == 70
    assert first["latentscale_refit_due"] == 0
    assert first["latentscale_stage_rows"] == 70
    assert "latentscale_documents_added" not in first
    failed = observed(path, error=StorageError("no"))
    assert failed["latentscale_run_exit_code"] == 4
    key = "latentscale_last_success_timestamp_seconds"
    assert failed[key] == first[key]
    assert [file.name for file in tmp_path.iterdir()] == ["latentscale.prom"]


def test_notices_of_another_thread_after_the_end_are_not_the_last_event(tmp_path: Path) -> None:
    stream, path = io.StringIO(), tmp_path / "latentscale.prom"
    seen = Observer("json", stream, metrics_file=path)
    with seen.watched("maps/x"):
        seen.begin("run-1", "maps/x")
        seen.finish()
        # As the thread of the lease does where its store answers late.
        seen.note("also at work on this workspace")
    shown = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert shown == ["run started", "note", "run done"]
    assert "latentscale_run_exit_code{" in path.read_text()


class Slow(io.StringIO):
    """A stream whose writer is off the processor after each piece."""

    def write(self, text: str, /) -> int:
        written = super().write(text)
        time.sleep(0.005)
        return written


def test_events_of_two_threads_are_shown_once_and_on_separate_lines() -> None:
    stream = Slow()
    seen = Observer("json", stream)
    threads = [
        threading.Thread(target=lambda name=name: [seen.note(f"{name} {i}") for i in range(10)]) for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = [json.loads(line)["text"] for line in stream.getvalue().splitlines()]
    assert sorted(shown) == sorted(f"{name} {i}" for name in ("a", "b") for i in range(10))


def test_a_metrics_file_that_cannot_be_written_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "x.prom"):
        with pytest.raises(ConfigError, match="--metrics-file"):
            Observer("quiet", metrics_file=path)
