"""An object store on loopback (OpenStack Swift): listing, and copies of the same bytes beside plain s3fs."""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.corpora import Context
from benchmarks.processes import REPOSITORY, fresh
from benchmarks.report import Result, Target

KEYS = 100_000
LARGE_MB = 200
SMALL_OBJECTS, SMALL_KB = 300, 64
ROUNDS = 7
BUCKET = "benchmark"


def run(context: Context) -> Result:
    """One server for all parts; each part in a fresh process, the two sides of a comparison by turns."""
    keys = 5_000 if context.quick else KEYS
    rounds = 3 if context.quick else ROUNDS
    server = _module("swift_server", REPOSITORY / "tests/s3/swift.py")
    scratch = context.folder("object_store")
    with server.swift(scratch / "swift") as swift:
        variables = {"AWS_ACCESS_KEY_ID": swift.key, "AWS_SECRET_ACCESS_KEY": swift.secret}
        fresh(make_bucket, variables=variables, endpoint=swift.endpoint)
        fresh(fill, root=swift.root, keys=keys)
        listed = fresh(listing, variables=variables, endpoint=swift.endpoint, keys=keys)[1]["rows"]
        copied = fresh(
            copies, variables=variables, endpoint=swift.endpoint, scratch=scratch, rounds=rounds, quick=context.quick
        )[1]["rows"]
    by_name = {row["what"]: row for row in [*listed, *copied]}
    targets = [
        Target(
            what=f"{what}, wall time beside s3fs",
            value=by_name[f"{what}: latentscale"]["wall_s"] / by_name[f"{what}: s3fs"]["wall_s"],
            limit=1.10,
            spread=max(by_name[f"{what}: {side}"]["spread"] for side in ("latentscale", "s3fs")),
        )
        for what in ("upload", "read", "upload small objects", "read small objects")
    ]
    parallel, one = by_name["list: latentscale, in parallel"], by_name["list: latentscale, one request at a time"]
    return Result(
        title=f"A real object store on loopback: {keys:,} keys listed, and the same bytes copied by plain s3fs.",
        parameters={
            "keys": keys,
            "large_mb": LARGE_MB,
            "small_objects": SMALL_OBJECTS,
            "small_kb": SMALL_KB,
            "rounds": rounds,
        },
        rows=[*listed, *copied],
        targets=[
            *targets,
            Target(
                what="parallel listing beside one request at a time", value=parallel["wall_s"] / one["wall_s"], limit=1
            ),
        ],
        notes=[
            "Server and client share the processors, so that a listing in parallel gains little here: what it saves is "
            "the way to a store that is far. The delayed rows have 50 ms before each request, as a store in another "
            "region has.",
            "The keys are put into the server's own table of the bucket, past its API: documents/<kk>/<key>.parquet.",
            "Copies: median of rounds in which the sides take turns; spread is the difference of the quartiles of a "
            "side, as a share of its median.",
        ],
    )


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
    """Make the bucket and its table."""
    _s3fs(endpoint).mkdir(BUCKET)
    _store(endpoint).put_bytes("workspace.json", b"{}")
    return {}


def fill(root: str, keys: int) -> dict[str, Any]:
    """Put keys into the server's table of the bucket: a hundred thousand PUTs would take a quarter of an hour."""
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


def listing(endpoint: str, keys: int) -> dict[str, Any]:
    """List all keys in four ways, near and far."""
    proxies = _module("faulty_proxy", REPOSITORY / "tests/s3/faulty_proxy.py")
    rows: list[dict[str, Any]] = []

    def timed(name: str, proxy: Any, work: Callable[[], int]) -> None:
        proxy.requests.clear()
        wall, cpu = time.perf_counter(), time.process_time()
        found = work()
        assert found == keys, (name, found)
        row = {"what": name, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        rows.append(row | {"requests": len(proxy.requests)})

    with proxies.faulty_proxy(endpoint) as proxy:
        for latency, where in ((0.0, ""), (0.05, ", 50 ms away")):
            proxy.latency = 0.0
            plain = _s3fs(proxy.endpoint)
            plain.ls(BUCKET)
            one, many = _store(proxy.endpoint, max_requests=1), _store(proxy.endpoint)
            one.check()
            many.check()
            proxy.latency = latency
            timed(f"list: s3fs find{where}", proxy, lambda fs=plain: len(fs.find(f"{BUCKET}/ws/documents")))
            timed(f"list: latentscale, one request at a time{where}", proxy, lambda s=one: len(s.list("documents")))
            timed(f"list: latentscale, in parallel{where}", proxy, lambda s=many: len(s.list("documents")))
    return {"rows": rows}


def copies(endpoint: str, scratch: str, rounds: int, quick: bool) -> dict[str, Any]:
    """Upload and read one large object and many small ones, by turns."""
    plain, store = _s3fs(endpoint), _store(endpoint)
    store.check()
    large = Path(scratch, "large")
    large.write_bytes(os.urandom((20 if quick else LARGE_MB) * 1_000_000))
    small = [os.urandom(SMALL_KB * 1_000) for _ in range(20 if quick else SMALL_OBJECTS)]
    there = f"{BUCKET}/s3fs"

    def check(data: bytes) -> None:
        assert len(data) == large.stat().st_size

    work: dict[str, Callable[[], object]] = {
        "upload: s3fs": lambda: plain.put_file(str(large), f"{there}/large"),
        "upload: latentscale": lambda: store.put_file("large", large),
        "read: s3fs": lambda: check(plain.cat_file(f"{there}/large")),
        "read: latentscale": lambda: check(store.read_bytes("large")),
        "upload small objects: s3fs": lambda: [plain.pipe_file(f"{there}/{n}", d) for n, d in enumerate(small)],
        "upload small objects: latentscale": lambda: [store.put_bytes(f"small/{n}", d) for n, d in enumerate(small)],
        "read small objects: s3fs": lambda: [plain.cat_file(f"{there}/{n}") for n in range(len(small))],
        "read small objects: latentscale": lambda: [store.read_bytes(f"small/{n}") for n in range(len(small))],
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for number in range(rounds):
        names = list(work)
        # Who comes first changes, since the second finds warm caches.
        pairs = [names[i : i + 2][:: 1 if number % 2 else -1] for i in range(0, len(names), 2)]
        for name in [name for pair in pairs for name in pair] if number else names:
            wall, cpu = time.perf_counter(), time.process_time()
            work[name]()
            figures[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    rows: list[dict[str, Any]] = []
    for name, seen in figures.items():
        walls = [wall for wall, _ in seen]
        quartiles = statistics.quantiles(walls, n=4)
        median = statistics.median(walls)
        row = {"what": name, "wall_s": median, "cpu_s": statistics.median(cpu for _, cpu in seen)}
        rows.append(row | {"spread": (quartiles[2] - quartiles[0]) / median})
    return {"rows": rows}
