"""An object store on loopback (OpenStack Swift): listing, and copying the same bytes, compared with plain s3fs."""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import corpora, workspaces
from benchmarks.corpora import Context
from benchmarks.processes import REPOSITORY, fresh, own_cpu_seconds
from benchmarks.report import Result, Target

KEYS = 100_000
LARGE_MB = 200
SMALL_OBJECTS, SMALL_KB = 300, 64
ROUNDS = 9
BUCKET = "benchmark"
SIDES = ("s3fs", "latentscale")
FAR = 0.05


def run(context: Context) -> Result:
    """Use one server; run each listing and each copy in a fresh process, alternating the sides."""
    keys = 5_000 if context.quick else KEYS
    rounds = 3 if context.quick else ROUNDS
    server = _module("swift_server", REPOSITORY / "tests/s3/swift.py")
    proxies = _module("faulty_proxy", REPOSITORY / "tests/s3/faulty_proxy.py")
    sources = _sources(context)
    with server.swift(context.emptied("object_store_server")) as swift:
        variables = {"AWS_ACCESS_KEY_ID": swift.key, "AWS_SECRET_ACCESS_KEY": swift.secret}
        fresh(make_bucket, variables=variables, endpoint=swift.endpoint)
        fresh(fill, root=swift.root, keys=keys)
        listed: list[dict[str, Any]] = []
        with proxies.faulty_proxy(swift.endpoint) as proxy:
            for proxy.latency, where in ((0.0, ""), (FAR, f", {FAR * 1000:.0f} ms away")):
                for way in ("s3fs find", "latentscale, one request at a time", "latentscale, in parallel"):
                    usage, measured = fresh(listing, variables=variables, endpoint=proxy.endpoint, way=way, keys=keys)
                    row = {"what": f"list: {way}{where}", **measured, "peak_mb": usage.peak_mb}
                    listed.append(row | {"requests": len(proxy.requests) - 1})
                    proxy.requests.clear()
                    proxy.seen.clear()
        copied, targets = _compare(swift.endpoint, variables, sources, rounds)
    wall = {row["what"]: row["wall_s"] for row in listed}
    far_suffix = f", {FAR * 1000:.0f} ms away"
    ratio = (
        wall[f"list: latentscale, in parallel{far_suffix}"]
        / wall[f"list: latentscale, one request at a time{far_suffix}"]
    )
    return Result(
        title=f"A real object store on loopback: {keys:,} keys listed, and the same bytes copied by plain s3fs.",
        parameters={
            "keys": keys,
            **{f"{name}_objects": len(files) for name, files in sources.items()},
            **{f"{name}_mb": sum(path.stat().st_size for path in files) / 1e6 for name, files in sources.items()},
            "rounds": rounds,
        },
        rows=[*listed, *copied],
        targets=[
            *targets,
            Target(what=f"listing in parallel beside one request at a time{far_suffix}", value=ratio, limit=1),
        ],
        notes=[
            "OpenStack Swift with its s3api. Server and client share the processors, so that a listing in parallel "
            "gains little at no distance: what it saves is the way to a store that is far. The delayed rows have "
            f"{FAR * 1000:.0f} ms before each request, as a store in another region has.",
            "The keys are put into the server's own table of the bucket, past its API: documents/<kk>/<key>.parquet.",
            "Copies, one object after another: put_file and cat_file of s3fs, put_file and read_bytes of a Store. "
            "A ratio is the median of those of the rounds, in each of which both sides copy the same bytes, each in a "
            "process of its own that has asked the server something before; repeats differ by the distance of the "
            "quartiles. Seconds of a side are medians, memory is the most; about 55 MB of that of LatentScale are what "
            "it imports beside s3fs (pyarrow above all).",
        ],
    )


def _sources(context: Context) -> dict[str, list[Path]]:
    """Make the files to copy: all objects of a workspace, one large object, and many small ones."""
    corpus = corpora.sample(context, 2_000) if context.quick else corpora.full_corpus(context)
    workspace = context.emptied("object_store_workspace") / "map"
    workspaces.run_corpus(corpus, workspace, "--set", "ingest.shard_rows=4096", compiled=context.compiled)
    folder = context.emptied("object_store_bytes")
    (folder / "large").write_bytes(os.urandom((20 if context.quick else LARGE_MB) * 1_000_000))
    for number in range(30 if context.quick else SMALL_OBJECTS):
        (folder / f"small-{number}").write_bytes(os.urandom(SMALL_KB * 1_000))
    return {
        "workspace": sorted(path for path in workspace.rglob("*") if path.is_file()),
        "large": [folder / "large"],
        "small": sorted(folder.glob("small-*")),
    }


def _compare(
    endpoint: str, variables: dict[str, str], sources: dict[str, list[Path]], rounds: int
) -> tuple[list[dict[str, Any]], list[Target]]:
    """Measure the rows of both sides, and the ratios of their times."""
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for name, files in sources.items():
        titles = {"upload": f"upload, {name}", "read": f"read, {name}"}
        costs_by_side: dict[tuple[str, str], list[dict[str, float]]] = {
            (way, side): [] for way in titles for side in SIDES
        }
        for round_number in range(rounds):
            # Alternate which side is first, since the second may benefit from warm caches.
            for way in titles:
                for side in SIDES[:: 1 if round_number % 2 else -1]:
                    usage, cost = fresh(
                        copy,
                        variables=variables,
                        endpoint=endpoint,
                        side=side,
                        way=way,
                        files=[str(path) for path in files],
                        prefix=f"{name}-{side}",
                    )
                    costs_by_side[way, side].append({**cost, "peak_mb": usage.peak_mb})
        for way, title in titles.items():
            for side in SIDES:
                costs = costs_by_side[way, side]
                median = {key: statistics.median(cost[key] for cost in costs) for key in ("wall_s", "cpu_s")}
                rows.append({"what": f"{title}: {side}", **median, "peak_mb": max(cost["peak_mb"] for cost in costs)})
            ratios = [
                ours["wall_s"] / theirs["wall_s"]
                for theirs, ours in zip(costs_by_side[way, "s3fs"], costs_by_side[way, "latentscale"], strict=True)
            ]
            quartiles = statistics.quantiles(ratios, n=4)
            targets.append(
                Target(
                    what=f"{title}, wall time beside s3fs",
                    value=statistics.median(ratios),
                    limit=1.10,
                    spread=quartiles[2] - quartiles[0],
                )
            )
    return rows, targets


def _module(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------------ in fresh processes


def _s3fs(endpoint: str) -> Any:
    import s3fs

    config = {
        "s3": {"addressing_style": "path"},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    return s3fs.S3FileSystem(endpoint_url=endpoint, config_kwargs=config, use_listings_cache=False)


def _store(endpoint: str, **settings: Any) -> Any:
    from latentscale.storage.objects import Store

    return Store(f"s3://{BUCKET}/ws", storage={"endpoint_url": endpoint, **settings})


def make_bucket(endpoint: str) -> dict[str, Any]:
    """Create the bucket and its table."""
    _s3fs(endpoint).mkdir(BUCKET)
    _store(endpoint).put_bytes("workspace.json", b"{}")
    return {}


def fill(root: str, keys: int) -> dict[str, Any]:
    """Insert keys into the server's table of the bucket: a hundred thousand PUTs would take a quarter of an hour."""
    import swift.common.utils
    from swift.container.backend import ContainerBroker

    swift.common.utils.SWIFT_CONF_FILE = f"{root}/conf/swift.conf"
    swift.common.utils.validate_configuration()
    for path in Path(root, "devices").rglob("*.db"):
        if "containers" not in path.parts:
            continue
        broker = ContainerBroker(str(path))
        if broker.get_info()["container"] != BUCKET:
            continue
        moment = f"{time.time():.5f}"
        rows = [
            {
                "name": f"ws/documents/{n * 2654435761 % 256:02x}/{n:08x}-00000e.parquet",
                "created_at": moment,
                "size": 4_000_000,
                "content_type": "application/octet-stream",
                "etag": f"{n:032x}",
                "deleted": 0,
                "storage_policy_index": 0,
            }
            for n in range(keys)
        ]
        for first in range(0, keys, 10_000):
            broker.merge_items(rows[first : first + 10_000])
        return {}
    raise AssertionError("the bucket has no table")


def listing(endpoint: str, way: str, keys: int) -> dict[str, Any]:
    """List all keys, by s3fs or a Store."""
    list_all: Callable[[], object]
    if way == "s3fs find":
        plain = _s3fs(endpoint)
        plain.exists(f"{BUCKET}/ws/workspace.json")

        def list_all() -> object:
            return plain.find(f"{BUCKET}/ws/documents", detail=True)
    else:
        store = _store(endpoint, **({"max_requests": 1} if "one request" in way else {}))
        store.exists("workspace.json")

        def list_all() -> object:
            return store.list("documents")

    return _timed(list_all, lambda keys_found: len(keys_found) == keys)


def copy(endpoint: str, side: str, way: str, files: list[str], prefix: str) -> dict[str, Any]:
    """Upload files one by one, or read the uploaded objects."""
    names = [f"{number:04d}-{Path(file).name}" for number, file in enumerate(files)]
    sizes = [Path(file).stat().st_size for file in files]
    if side == "s3fs":
        plain = _s3fs(endpoint)
        plain.exists(f"{BUCKET}/ws/workspace.json")
        targets = [f"{BUCKET}/{prefix}/{name}" for name in names]
        if way == "upload":
            return _timed(lambda: [plain.put_file(file, target) for file, target in zip(files, targets, strict=True)])
        return _timed(lambda: [len(plain.cat_file(target)) for target in targets], lambda lengths: lengths == sizes)
    store = _store(endpoint)
    store.exists("workspace.json")
    targets = [f"{prefix}/{name}" for name in names]
    if way == "upload":
        return _timed(lambda: [store.put_file(target, Path(file)) for file, target in zip(files, targets, strict=True)])
    return _timed(lambda: [len(store.read_bytes(target)) for target in targets], lambda lengths: lengths == sizes)


def _timed(work: Callable[[], Any], is_valid: Callable[[Any], bool] = lambda _: True) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), own_cpu_seconds()
    result = work()
    cost = {"wall_s": time.perf_counter() - wall, "cpu_s": own_cpu_seconds() - cpu}
    assert is_valid(result)
    return cost
