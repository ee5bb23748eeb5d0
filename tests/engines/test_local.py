"""The local engine: worker processes, their deaths, and tasks without processes."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import psutil
import pytest

import latentscale
from latentscale.config import EngineConfig
from latentscale.engines import Quarantined, local, pool
from latentscale.engines.failures import WorkerError
from latentscale.engines.local import PROCESS_SECONDS, LocalEngine
from latentscale.errors import ConfigError, CorpusError, EnvironmentFailure
from latentscale.machine import available_processors
from latentscale.stages.context import StageContext
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.objects import Store
from tests.engines.work import Facts, Failing, NeverReady, Numbered, OwnError, Parts, Together, Whole


def workers() -> list[psutil.Process]:
    """Processes of an engine that this one started; other tests have servers of their own."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any("latentscale.engines.worker" in word for word in child.cmdline()):
                found.append(child)
    return found


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers fit into memory, whatever other processes take of it: one alone would be this process."""
    monkeypatch.setattr(local, "available_memory", lambda: 8e9)


@pytest.fixture
def run(tmp_path: Path, memory: None) -> Iterator[Any]:
    """Runs tasks through an engine of two workers, as the pipeline does."""
    notices: list[str] = []
    engine = LocalEngine(EngineConfig(workers=2), on_notice=notices.append)

    def all_of(make: Any, count: int, **settings: Any) -> list[Any]:
        return list(
            engine.map_shards(
                make,
                [Numbered(str(i)) for i in range(count)],
                stage=settings.pop("stage", "ingest"),
                task_type=Numbered,
                receipt_type=Facts,
                attempts=AttemptLog(Store(str(tmp_path)), "run"),
                **settings,
            )
        )

    all_of.notices = notices  # type: ignore[attr-defined]
    all_of.engine = engine  # type: ignore[attr-defined]
    yield all_of
    engine.close()
    assert not workers(), "an engine that is closed leaves no process"


def test_shards_run_in_one_process_per_worker(run: Any, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    made = run(partial(Together, str(folders[0])), 12)
    assert sorted(int(one.key) for one in made) == list(range(12))
    pids = {one.pid for one in made}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert {one.threads for one in made} == {"1"}
    again = run(partial(Together, str(folders[1])), 12, stage="embed")
    assert {one.pid for one in again} == pids, "the next stage has the same processes"
    assert run.engine.describe()["workers"] == {"ingest": 2, "embed": 2}


@pytest.mark.parametrize(("count", "seconds"), [(1, 1e9), (5, PROCESS_SECONDS / 2)])
@pytest.mark.parametrize("make", [Whole, Parts])
def test_a_moment_of_work_starts_no_process(run: Any, make: Any, count: int, seconds: float) -> None:
    made = run(make, count, seconds=seconds)
    assert [one.key for one in made] == [str(i) for i in range(count)]
    assert {one.pid for one in made} == {os.getpid()}


def test_a_worker_of_a_script_runs_in_the_process_of_the_script(run: Any) -> None:
    class Inner(Whole):
        pass

    assert {one.pid for one in run(Inner, 4)} == {os.getpid()}


@pytest.mark.parametrize("part", ["read", "compute", "write"])
def test_a_shard_that_kills_its_worker_is_quarantined_and_no_innocent_one(run: Any, tmp_path: Path, part: str) -> None:
    made = run(partial(Parts, poison="4", part=part), 16)
    given_up = [one for one in made if isinstance(one, Quarantined)]
    assert sorted(int(one.key) for one in made if not isinstance(one, Quarantined)) == [
        i for i in range(16) if i != 4
    ], "every other shard is done, once"
    assert [(one.key, one.tries) for one in given_up] == [("4", 3)]
    assert "its worker died 3 times: process " in given_up[0].reason
    assert any("killed by signal 9" in text for text in run.notices)
    # What is left of the tries: those of the poison, of which one may have had company.
    left = {path.parent.name for path in (tmp_path / "attempts" / "run").glob("*/*")}
    assert left == {"4"}


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (CorpusError("row 3", where="a.csv", hint="Look."), CorpusError, "at: a.csv"),
        (ValueError("a fault"), ValueError, "a fault"),
        (MemoryError("64 GB"), MemoryError, "64"),
        (OwnError("CUDA"), WorkerError, "OwnError: CUDA"),
    ],
)
def test_an_error_of_a_worker_ends_the_run_with_its_type(run: Any, error: Exception, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        run(partial(Failing, error), 6)
    assert type(caught.value) is kind
    if kind is not CorpusError:
        assert "in __call__" in str(caught.value.__cause__), "the traceback of the worker"
    assert not workers(), "no worker is left after an error"


def test_workers_that_cannot_start_end_the_run(run: Any) -> None:
    with pytest.raises(EnvironmentFailure, match="3 workers died before they were ready: exit code 7"):
        run(NeverReady, 6)


def test_half_an_answer_of_a_killed_worker_is_no_answer() -> None:
    with subprocess.Popen(["printf", '{"task": 0}\\n{"task": 1, "rec'], stdout=subprocess.PIPE) as process:
        one: Any = SimpleNamespace(process=process)
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        pool._listen(one, events)
    assert [events.get(), events.get()] == [(one, b'{"task": 0}\n'), (one, None)]
    assert events.empty()


def test_who_stops_asking_stops_the_workers(tmp_path: Path, memory: None) -> None:
    engine = LocalEngine(EngineConfig(workers=2))
    made = engine.map_shards(
        Whole,
        [Numbered(str(i)) for i in range(100)],
        stage="ingest",
        task_type=Numbered,
        receipt_type=Facts,
        attempts=AttemptLog(Store(str(tmp_path)), "run"),
    )
    next(iter(made))
    made.close()  # type: ignore[attr-defined]
    assert not workers()


def test_a_stage_receives_the_resources_of_the_machine(tmp_path: Path) -> None:
    notices: list[str] = []
    engine = LocalEngine(EngineConfig(), on_notice=notices.append)
    reported: list[tuple[int, int]] = []

    def look(here: StageContext) -> StageContext:
        here.progress(1, 2)
        here.notice("a sample")
        return here

    here = engine.call(
        look,
        StageContext(store=Store(str(tmp_path)), run="r"),
        stage="cluster",
        progress=lambda done, total: reported.append((done, total)),
    )
    assert (here.run, here.threads) == ("r", available_processors())
    assert here.memory > 1e8
    assert here.scratch is not None
    assert here.scratch.stat().st_mode & 0o777 == 0o700
    assert notices == ["a sample"]
    assert reported == [(1, 2)]
    place = engine.place("cluster")
    assert place is engine.place("cluster"), "measured once"
    assert place.cpus == available_processors()
    assert place.packages["numpy"]
    assert place.disk_free_bytes > 0
    assert place.python.startswith("3.")
    assert engine.place("ingest").memory_bytes <= psutil.virtual_memory().total / max(1, available_processors())


@pytest.mark.parametrize("setting", [{"runtime_env": {"env_vars": {"A": "1"}}}, {"image": "example/gpu:1"}])
def test_an_environment_of_a_stage_is_refused(setting: dict[str, Any]) -> None:
    config = EngineConfig.model_validate({"resources": {"label": setting}})
    with pytest.raises(ConfigError, match=r"engine\.resources\.label\.(runtime_env|image) is for the workers"):
        LocalEngine(config)


SCRIPT = """
import sys, latentscale
from latentscale.engines import local
local.PROCESS_SECONDS = 0.0
local.available_memory = lambda: 8e9
print("once", flush=True)
corpus, out = sys.argv[1:]
settings = {"engine": {"workers": 2}, "ingest": {"shard_rows": 40}}
"""
WHOLE = SCRIPT + 'latentscale.run(corpus, out=out, progress="quiet", **settings)'
# No stage after embed has processes of its own.
TO_EMBED = SCRIPT + 'latentscale.Workspace(out).run({"corpus": {"sources": corpus}, **settings}, until="embed")'


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    folder = tmp_path_factory.mktemp("parts") / "corpus"
    folder.mkdir()
    for i, part in enumerate(pl.read_parquet(small_corpus).iter_slices(60)):
        part.write_csv(folder / f"{i}.csv")
    return folder


def by_script(command: list[str], corpus: Path, out: Path, stdin: str | None = None) -> str:
    """What a script prints that makes a map of the corpus."""
    done = subprocess.run(
        [sys.executable, *command, str(corpus), str(out)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    facts = latentscale.open(out).runs[0]["facts"]
    assert facts["engine"]["workers"]["embed"] == 2
    return done.stdout


@pytest.fixture(scope="module")
def by_file(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> tuple[Path, str]:
    """The whole map that a script in a file makes with two processes, and what it prints."""
    folder = tmp_path_factory.mktemp("script")
    script = folder / "script.py"
    script.write_text(WHOLE)
    return folder / "out", by_script([str(script)], corpus, folder / "out")


def test_a_script_without_a_main_guard_runs_once(by_file: tuple[Path, str]) -> None:
    out, said = by_file
    assert said == "once\n"
    assert latentscale.open(out).current is not None


@pytest.mark.parametrize(("command", "stdin"), [(["-"], TO_EMBED), (["-c", TO_EMBED], None)], ids=["stdin", "-c"])
def test_a_script_that_is_no_file_runs_once(
    tmp_path: Path, corpus: Path, command: list[str], stdin: str | None
) -> None:
    assert by_script(command, corpus, tmp_path / "out", stdin) == "once\n"


def test_processes_leave_the_same_bytes_as_one(tmp_path: Path, corpus: Path, by_file: tuple[Path, str]) -> None:
    settings = {"engine": {"workers": 1}, "ingest": {"shard_rows": 40}}
    latentscale.Workspace(tmp_path).run({"corpus": {"sources": str(corpus)}, **settings}, until="embed")
    one, two = ({p.relative_to(out): p.read_bytes() for p in shards(out)} for out in (tmp_path, by_file[0]))
    assert one
    assert one == two


def shards(workspace: Path) -> list[Path]:
    return sorted(path for folder in ("documents", "embeddings") for path in (workspace / folder).rglob("*.parquet"))


SLOW = """
import sys, time
from latentscale.config import EngineConfig
from latentscale.engines import local
from latentscale.engines.local import LocalEngine
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.objects import Store
from tests.engines.work import Facts, Numbered, Whole
local.available_memory = lambda: 8e9
engine = LocalEngine(EngineConfig(workers=2))
for one in engine.map_shards(Whole, [Numbered(str(i)) for i in range(10_000)], stage="ingest", task_type=Numbered,
                             receipt_type=Facts, attempts=AttemptLog(Store(sys.argv[1]), "run")):
    print(one.pid, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_driver(tmp_path: Path, number: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as driver:
        assert driver.stdout is not None
        pids: set[int] = set()
        while len(pids) < 2:
            pids.add(int(driver.stdout.readline()))
        workers = [psutil.Process(pid) for pid in pids]
        # As a terminal does, to every process; kill -9 to the driver alone.
        os.killpg(driver.pid, number) if number == signal.SIGINT else driver.kill()
        assert psutil.wait_procs(workers, timeout=120)[1] == []
        driver.communicate()
