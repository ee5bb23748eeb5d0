"""Overhead of the engines over the worker calls that they make."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import corpora, workspaces
from benchmarks.corpora import Context
from benchmarks.processes import fresh, own_cpu_seconds
from benchmarks.report import Result, Target

REPEATS = 3
WORKERS = 2
SMALL_SHARDS = 256
RAY_REPEATS = 2
# Rows of a shard that took ten seconds to embed on the machine of the first results.
LARGE_SHARD_ROWS = 140_000
LARGE_SHARDS = 4
SLEEP = 10.0
SLEEPERS = 6


def run(context: Context) -> Result:
    """Measure the local engine inside one run and next to a bare loop, Ray next to two concurrent bare processes."""
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    corpus = corpora.full_corpus(context)
    folder = context.emptied("engine")
    for size in (16_384, SMALL_SHARDS):
        workspace = folder / f"shards-{size}"
        setting = f"ingest.shard_rows={size}"
        workspaces.run_corpus(corpus, workspace, "--set", setting, compiled=context.compiled, verb="ingest")
        local_rows = _local(workspace, 1 if context.quick else REPEATS)
        rows += local_rows
        if size != SMALL_SHARDS:
            share = local_rows[0]["added_cpu_percent"]
            targets.append(Target(what="local engine and pipeline, beyond the calls", value=share, limit=3, unit="%"))
    seconds = 0.5 if context.quick else SLEEP
    small_corpus = corpora.sample(context, 16 * SLEEPERS)
    workspace = folder / "tiny"
    workspaces.run_corpus(
        small_corpus, workspace, "--set", "ingest.shard_rows=16", compiled=context.compiled, verb="ingest"
    )
    sleeping = fresh(ray_embed, workspace=workspace, notes=folder / "notes", sleep=seconds)[1]
    sleeping["added_wall_percent"] = 100 * (sleeping["wall_s"] / (seconds * SLEEPERS / WORKERS) - 1)
    rows.append({"what": f"ray, {SLEEPERS} shards of 16 rows that sleep {seconds} s first", **sleeping})
    shard_rows, shards = (2_000, 4) if context.quick else (LARGE_SHARD_ROWS, LARGE_SHARDS)
    large = corpora.copies(context, shards * shard_rows, group_rows=shard_rows)
    workspace = folder / "large"
    sizes = ("--set", f"ingest.shard_rows={shard_rows}", "--set", "ingest.shard_bytes=1000000000")
    workspaces.run_corpus(large, workspace, *sizes, compiled=context.compiled, verb="ingest")
    one_thread = {"OMP_NUM_THREADS": "1"}
    alone = fresh(bare_loop, workspace=workspace, variables=one_thread)[1]
    single = fresh(ray_embed, workspace=workspace, notes=folder / "notes", workers=1)[1]
    single["added_wall_percent"] = 100 * (single["wall_s"] / alone["wall_s"] - 1)
    single["added_cpu_percent"] = 100 * (single["cpu_s"] / alone["cpu_s"] - 1)
    rows += [
        {
            "what": f"one bare loop, {shards} shards of {shard_rows:,} rows",
            "cpu_s": alone["cpu_s"],
            "wall_s": alone["wall_s"],
        },
        {"what": "ray with one worker, the same shards", **single},
    ]
    targets.append(
        Target(
            what="ray with one worker beyond its start, wall time beside a bare loop",
            value=single["added_wall_percent"],
            limit=5,
            unit="%",
        )
    )
    bare_runs: list[dict[str, Any]] = []
    ray_runs: list[dict[str, Any]] = []
    for _ in range(1 if context.quick else RAY_REPEATS):
        bare_runs.append(_two_bare_loops(workspace))
        ray_runs.append(fresh(ray_embed, workspace=workspace, notes=folder / "notes")[1])
    bare, ray = (min(runs, key=lambda run: run["wall_s"]) for runs in (bare_runs, ray_runs))
    ray["added_wall_percent"] = 100 * (ray["wall_s"] / bare["wall_s"] - 1)
    ray["added_cpu_percent"] = 100 * (ray["cpu_s"] / bare["cpu_s"] - 1)
    bare_walls, ray_walls = sorted(run["wall_s"] for run in bare_runs), sorted(run["wall_s"] for run in ray_runs)
    rows += [
        {"what": f"two bare loops at once, {shards} shards of {shard_rows:,} rows", **bare},
        {"what": "ray with two workers, the same shards", **ray},
    ]
    spread = 100 * max(walls[-1] / walls[0] - 1 for walls in (bare_walls, ray_walls)) if len(ray_runs) > 1 else None
    idle = ray["idle_percent"]
    targets += [
        Target(
            what="ray beyond its start, wall time beside two bare loops",
            value=ray["added_wall_percent"],
            limit=5,
            unit="%",
            spread=spread,
        ),
        Target(what="ray beyond its start, time in which its workers wait", value=idle, limit=5, unit="%"),
        Target(what="the same with shards that sleep", value=sleeping["added_wall_percent"], limit=5, unit="%"),
    ]
    return Result(
        title="What the engines add to the same EmbedWorker calls: local beside a loop, Ray beside two loops at once.",
        parameters=corpus.facts() | {"repeats": 1 if context.quick else REPEATS, "workers": WORKERS},
        rows=rows,
        targets=targets,
        notes=[
            "Local: processor time of `Workspace.run(until='embed')` less that inside the worker, its making included, "
            "as a share of the latter: both are taken in one process, so that noise between processes cancels. "
            "The bare loops beside it are a check.",
            "With one worker a processor is left for Ray's own processes; with two they share both processors with the "
            "work, which on a machine of two shows.",
            "Ray's fair rival on two processors is two plain processes, each with half of the shards, released at one "
            "moment when both have opened the model: they share caches and memory as Ray's two actors do. "
            "Both sides run with OMP_NUM_THREADS=1, as Ray sets it.",
            "Ray's start is the time until the first worker begins its first shard: cluster, actors, imports, model. "
            "From there to the last receipt is its wall time; ending the cluster is a column of its own. "
            "Its processor time is that inside the workers; `tree_cpu_s` is that of all its processes, start included.",
            f"The sides take turns, and the fastest run of each is shown; all walls: bare "
            f"{', '.join(f'{wall:.1f}' for wall in bare_walls)} s, "
            f"Ray {', '.join(f'{wall:.1f}' for wall in ray_walls)} s.",
            "`idle_percent` is the wall time beyond the calls, shared evenly by the workers: scheduling, unequal "
            "starts and ends. It is taken inside one run, so that other work on the machine hardly alters it, and it "
            "does not hold what Ray's daemons take from the calls themselves; the wall time beside bare loops does, "
            "and is worth no more than its repeats agree.",
            "Shards that sleep show the scheduling alone: the added time is over the ideal of an even split.",
        ],
    )


def _local(workspace: Path, repeats: int) -> list[dict[str, Any]]:
    runs: dict[Callable[..., dict[str, Any]], list[dict[str, Any]]] = {pipeline: [], bare_loop: []}
    for _ in range(repeats):
        for function, part_runs in runs.items():
            part_runs.append(fresh(function, workspace=workspace)[1])
    ours, bare = runs[pipeline], runs[bare_loop]
    shards = bare[0]["shards"]
    cpu = statistics.median(run["cpu_s"] for run in bare)
    return [
        {
            "what": f"local, whole stage, {shards} shards",
            "cpu_s": statistics.median(run["cpu_s"] for run in ours),
            "wall_s": statistics.median(run["wall_s"] for run in ours),
            "added_cpu_percent": statistics.median(100 * (r["cpu_s"] / r["inside_cpu_s"] - 1) for r in ours),
            "added_wall_percent": statistics.median(100 * (r["wall_s"] / r["inside_wall_s"] - 1) for r in ours),
        },
        {
            "what": f"bare loop, {shards} shards",
            "cpu_s": cpu,
            "wall_s": statistics.median(run["wall_s"] for run in bare),
        },
    ]


def _two_bare_loops(workspace: Path) -> dict[str, Any]:
    shutil.rmtree(workspace / "embeddings", ignore_errors=True)
    gate = workspace / f"gate-{time.time_ns()}"
    gate.mkdir()
    run_half = partial(fresh, half_loop, workspace=workspace, gate=gate, variables={"OMP_NUM_THREADS": "1"})
    with ThreadPoolExecutor(WORKERS) as pool:
        halves = [facts for _, facts in pool.map(lambda half: run_half(half=half), range(WORKERS))]
    wall = max(half["ended"] for half in halves) - min(half["started"] for half in halves)
    return {
        "cpu_s": sum(half["cpu_s"] for half in halves),
        "wall_s": wall,
        "longest_shard_s": max(half["longest"] for half in halves),
        "idle_percent": 100 * (wall * WORKERS / sum(half["ended"] - half["started"] for half in halves) - 1),
    }


# ------------------------------------------------------------------------------------------------ in fresh processes


def pipeline(workspace: str) -> dict[str, Any]:
    """Run the embed stage as the pipeline does, and measure the time inside the worker."""
    import latentscale
    from latentscale.stages import embed
    from latentscale.storage.vectors import EMBEDDINGS

    inside = {"cpu": 0.0, "wall": 0.0}
    original = embed.EmbedWorker

    class Counted:
        """Runs the phases of the worker sequentially, as the bare loop does."""

        def __init__(self, *arguments: Any) -> None:
            cpu, wall = own_cpu_seconds(), time.perf_counter()
            self._worker = original(*arguments)
            inside["cpu"] += own_cpu_seconds() - cpu
            inside["wall"] += time.perf_counter() - wall

        def __call__(self, shard: Any) -> Any:
            cpu, wall = own_cpu_seconds(), time.perf_counter()
            receipt = self._worker(shard)
            inside["cpu"] += own_cpu_seconds() - cpu
            inside["wall"] += time.perf_counter() - wall
            return receipt

    embed.EmbedWorker = Counted
    opened = latentscale.open(workspace)
    shutil.rmtree(Path(workspace, EMBEDDINGS), ignore_errors=True)
    settings, snapshot = opened.settings(of_last_run=True), opened.snapshot
    # In this process, so that both sides can be measured; case local_engine measures several processes.
    settings["engine"] = settings["engine"] | {"workers": 1}
    bare_worker(opened)  # loads the model, which is not measured for the bare loop either
    inside.update(cpu=0.0, wall=0.0)
    cpu, wall = own_cpu_seconds(), time.perf_counter()
    opened.run(settings, until="embed", snapshot=snapshot)
    facts = {"cpu_s": own_cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall}
    shutil.rmtree(Path(workspace, EMBEDDINGS))
    return facts | {"inside_cpu_s": inside["cpu"], "inside_wall_s": inside["wall"]}


def bare_worker(opened: Any) -> Any:
    """Make the stage's own worker with the settings of the workspace's last run."""
    from latentscale.config import parse_job
    from latentscale.embedders import embedder_spec
    from latentscale.stages import embed

    job = parse_job(opened.settings(of_last_run=True), where="the benchmark")
    spec = embedder_spec(job.embed)
    request = embed.STAGE.request(spec, job, text_column=opened.record.text_column)
    return embed.EmbedWorker(opened.store, spec, request)


def bare_loop(workspace: str) -> dict[str, Any]:
    """Make the same calls in a loop."""
    import latentscale
    from latentscale.storage.vectors import EMBEDDINGS

    opened = latentscale.open(workspace)
    snapshot = opened.snapshot
    shutil.rmtree(Path(workspace, EMBEDDINGS), ignore_errors=True)
    bare_worker(opened)
    cpu, wall = own_cpu_seconds(), time.perf_counter()
    worker = bare_worker(opened)
    for shard in snapshot.shards:
        worker(shard)
    facts = {"cpu_s": own_cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall}
    shutil.rmtree(Path(workspace, EMBEDDINGS))
    return facts | {"shards": len(snapshot.shards)}


def half_loop(workspace: str, gate: str, half: int) -> dict[str, Any]:
    """Embed every second shard in a loop, started when the other process is ready too."""
    import latentscale

    opened = latentscale.open(workspace)
    shards = opened.snapshot.shards[half::WORKERS]
    worker = bare_worker(opened)
    Path(gate, str(half)).touch()
    while len(list(Path(gate).iterdir())) < WORKERS:
        time.sleep(0.005)
    started, cpu, longest = time.time(), own_cpu_seconds(), 0.0
    for shard in shards:
        shard_started = time.perf_counter()
        worker(shard)
        longest = max(longest, time.perf_counter() - shard_started)
    return {"started": started, "ended": time.time(), "cpu_s": own_cpu_seconds() - cpu, "longest": longest}


class RecordingWorker:
    """An EmbedWorker that records the times of each shard in a file, and optionally sleeps before it."""

    def __init__(self, notes: str, sleep: float, *arguments: Any, **settings: Any) -> None:
        from latentscale.stages.embed import EmbedWorker

        self._notes, self._sleep = notes, sleep
        self._worker = EmbedWorker(*arguments, **settings)

    def __call__(self, shard: Any) -> Any:
        """Embed one shard."""
        started, cpu = time.time(), own_cpu_seconds()
        time.sleep(self._sleep)
        receipt = self._worker(shard)
        note = {"started": started, "ended": time.time(), "cpu_s": own_cpu_seconds() - cpu}
        Path(self._notes, f"{shard.key}.json").write_text(json.dumps(note), encoding="utf-8")
        return receipt


def ray_embed(workspace: str, notes: str, sleep: float = 0.0, workers: int = WORKERS) -> dict[str, Any]:
    """Run the embed stage on Ray, as the pipeline does."""
    import latentscale
    from latentscale.engines.ray.engine import RayEngine
    from latentscale.stages import embed
    from latentscale.storage.vectors import EMBEDDINGS

    shutil.rmtree(Path(workspace, EMBEDDINGS), ignore_errors=True)
    shutil.rmtree(notes, ignore_errors=True)
    Path(notes).mkdir(parents=True)
    embed.EmbedWorker = partial(RecordingWorker, notes, sleep)
    times: dict[str, float] = {}
    map_shards = RayEngine.map_shards

    def timed_map_shards(self: Any, *arguments: Any, **settings: Any) -> Any:
        times["opened"] = time.time()
        yield from map_shards(self, *arguments, **settings)
        times["done"] = time.time()

    RayEngine.map_shards = timed_map_shards
    opened = latentscale.open(workspace)
    settings = opened.settings(of_last_run=True)
    settings["engine"] = settings["engine"] | {"name": "ray", "workers": workers}
    snapshot = opened.snapshot
    ended = threading.Event()
    cpu_seconds: dict[tuple[int, float], float] = {}
    watcher = threading.Thread(target=_watch_tree, args=(ended, cpu_seconds), daemon=True)
    watcher.start()
    started = time.time()
    opened.run(settings, until="embed", snapshot=snapshot)
    closed = time.time()
    ended.set()
    watcher.join()
    calls = [json.loads(path.read_text(encoding="utf-8")) for path in Path(notes).iterdir()]
    first, done = min(call["started"] for call in calls), times["done"]
    return {
        "cpu_s": sum(call["cpu_s"] for call in calls),
        "wall_s": done - first,
        "longest_shard_s": max(call["ended"] - call["started"] for call in calls),
        "idle_percent": 100 * ((done - first) * workers / sum(call["ended"] - call["started"] for call in calls) - 1),
        "start_s": first - started,
        "of_which_cluster_s": times["opened"] - started,
        "end_s": closed - done,
        "tree_cpu_s": sum(cpu_seconds.values()),
    }


def _watch_tree(ended: threading.Event, cpu_seconds: dict[tuple[int, float], float]) -> None:
    """Poll the CPU time of this process and its descendants."""
    import psutil

    this_process = psutil.Process(os.getpid())
    while not ended.wait(0.5):
        for process in [this_process, *this_process.children(recursive=True)]:
            try:
                times = process.cpu_times()
                cpu_seconds[(process.pid, process.create_time())] = times.user + times.system
            except psutil.Error:
                continue
