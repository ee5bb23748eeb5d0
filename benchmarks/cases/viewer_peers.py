"""The page compared with those of Embedding Atlas and DataMapPlot for the same points, texts and labels."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import io
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks import corpora, workspaces
from benchmarks.corpora import Context
from benchmarks.processes import PartFailedError, fresh, latentscale, run_command
from benchmarks.report import Result, Target

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROUNDS = 3
OURS, ATLAS, DATAMAPPLOT = "latentscale", "Embedding Atlas, --export-application", "DataMapPlot, interactive"
WINDOW = {"width": 1280, "height": 800}
# The middle of the window, which shows points and no panel on each of the pages.
MIDDLE = {"x": 400.0, "y": 150.0, "width": 400.0, "height": 500.0}
# Number of pixels there that differ from the background once points are drawn.
MIN_DRAWN_PIXELS = 2_000
POINTS_TIMEOUT_S = 60
# Timeout for a page whose scripts were blocked, which will not draw anything.
BLOCKED_TIMEOUT_S = 8
# Limits for other programs that write their page: CPU time of all threads, and data memory.
WRITE_LIMIT_CPU_S, WRITE_LIMIT_MB = 240, 12_000
# Executes the command from the third argument on, limited to so many seconds and megabytes.
LIMITED = """
import os, resource, sys
seconds, megabytes = map(int, sys.argv[1:3])
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
resource.setrlimit(resource.RLIMIT_DATA, (megabytes * 10**6, megabytes * 10**6))
os.execv(sys.argv[3], sys.argv[3:])
"""
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
CHROMIUM = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
PLOT = """
import sys
import datamapplot, pandas
frame = pandas.read_parquet(sys.argv[1])
plot = datamapplot.create_interactive_plot(
    frame[["x", "y"]].to_numpy(), frame["label"].to_numpy(), hover_text=frame["text"].tolist(), enable_search=True
)
plot.save(sys.argv[2])
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A number of documents and the inputs of its pages.

    Attributes
    ----------
    documents : int
    folder : Path
        Workspace with LatentScale's page.
    rows : Path
        The same positions, texts and labels as parquet, for the other programs.
    """

    documents: int
    folder: Path
    rows: Path


def run(context: Context) -> Result:
    """Write the three pages for a thousand, eight thousand and all documents, and open them alternately."""
    folder = context.emptied("peers")
    sizes: list[Size] = []
    for name in ("thousand", "demo") if context.quick else ("thousand", "demo", "corpus"):
        workspace = folder / name
        if name == "demo":
            command = latentscale("run", "demo", "--out", workspace, "--progress", "quiet")
            run_command(command, compiled=context.compiled)
        else:
            corpus = corpora.sample(context, 1_000) if name == "thousand" else corpora.full_corpus(context)
            workspaces.run_corpus(corpus, workspace, compiled=context.compiled)
        rows = folder / f"{name}.parquet"
        _, facts = fresh(write_rows, workspace=workspace, path=rows)
        sizes.append(Size(documents=facts["rows"], folder=workspace, rows=rows))
    return compare(context, sizes, rounds=1 if context.quick else ROUNDS)


def compare(context: Context, sizes: Sequence[Size], *, rounds: int, notes: Sequence[str] = ()) -> Result:
    """Let the other programs write their pages of each size, open all pages, and measure their cost."""
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    unfinished: list[str] = []
    for size in sizes:
        page_rows, failed = _compared(context, size, rounds)
        unfinished += failed
        rows += page_rows
        ours = page_rows[0]
        targets += [
            Target(what=f"{row['what']}: {what}", value=ours[key] / row[key], limit=0.5)
            for row in page_rows[1:]
            for key, what in (("sent_gzip_kb", "bytes sent"), ("points_s", "time to the first points"))
            if row.get(key) and ours[key]
        ]
    return Result(
        title="A static page of the same documents: what is written, sent, and how soon points are seen.",
        parameters={
            "rounds": rounds,
            "write_limit_cpu_s": WRITE_LIMIT_CPU_S,
            "write_limit_mb": WRITE_LIMIT_MB,
            "points_limit_s": POINTS_TIMEOUT_S,
        },
        rows=rows,
        targets=targets,
        notes=[
            "All have the same places, labels and whole texts; searches by words work on each. Sent: what the page has "
            "asked for when it rests, as a server that compresses text sends it; on disk: all that is written. "
            "Headless Chromium without a graphics processor, started anew for each page, one server on loopback that "
            "does not compress.",
            "Foreign requests go to other servers and were refused. DataMapPlot asks two of them for its scripts: "
            "without these it draws nothing, so that it has no time here, and they are missing from its bytes.",
            "latentscale writes its page as part of the run, which is measured in other cases.",
            *notes,
            *unfinished,
        ],
    )


def _compared(context: Context, size: Size, rounds: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row per page of a size, LatentScale's first, and a note for each that was not written or drawn."""
    pages = {OURS: (size.folder, "viewer/")}
    write_costs: dict[str, dict[str, float]] = {OURS: {}}
    failed: list[str] = []
    for name, make in {ATLAS: _atlas, DATAMAPPLOT: _datamapplot}.items():
        if context.viewer_peers_python is None:
            break
        target = size.folder.parent / f"{size.folder.name}-{name.partition(',')[0].replace(' ', '-')}"
        shutil.rmtree(target, ignore_errors=True)
        command = [sys.executable, "-c", LIMITED, str(WRITE_LIMIT_CPU_S), str(WRITE_LIMIT_MB)]
        try:
            usage, _ = run_command([*command, *make(context.viewer_peers_python, size.rows, target)])
        except PartFailedError as error:
            limit_exceeded = f"ended with -{int(signal.SIGXCPU)}" in str(
                error
            ) or f"ended with -{int(signal.SIGKILL)}" in str(error)
            reason = "more time" if limit_exceeded else str(error).strip().splitlines()[-1][:160]
            failed.append(
                f"{name}, {size.documents:,} documents: not written within {WRITE_LIMIT_CPU_S} CPU-s and "
                f"{WRITE_LIMIT_MB:,} MB of data: {reason}."
            )
            continue
        write_costs[name] = {"write_cpu_s": usage.cpu_s, "write_peak_mb": usage.peak_mb}
        pages[name] = (target, "")
    visits_by_page: dict[str, list[dict[str, Any]]] = {name: [] for name in pages}
    for _ in range(rounds):
        for name, (root, path) in pages.items():
            # A fresh browser, which is not affected by the previous page.
            with _browser() as browser:
                visits_by_page[name].append(_open(browser, root, path))
    failed += [
        f"{name}, {size.documents:,} documents: no points within {POINTS_TIMEOUT_S} s in {rounds} of {rounds} rounds."
        for name, visits in visits_by_page.items()
        if name != DATAMAPPLOT and not any(visit["points_s"] for visit in visits)
    ]
    rows = [
        {"what": f"{name}, {size.documents:,}", **_row(visits_by_page[name], pages[name][0], name), **write_costs[name]}
        for name in pages
    ]
    return rows, failed


def _atlas(python: str, rows: Path, target: Path) -> list[str]:
    return [
        *(python, "-m", "embedding_atlas.cli", str(rows), "--text", "text", "--x", "x", "--y", "y"),
        *("--export-application", str(target)),
    ]


def _datamapplot(python: str, rows: Path, target: Path) -> list[str]:
    target.mkdir()
    return [python, "-c", PLOT, str(rows), str(target / "index.html")]


@contextlib.contextmanager
def _browser() -> Generator[Browser]:
    from playwright.sync_api import sync_playwright

    installed = filter(None, map(shutil.which, BROWSERS))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=next(installed), args=CHROMIUM)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def _served(root: Path) -> Generator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def _open(browser: Browser, root: Path, path: str) -> dict[str, Any]:
    """Open a page in a new profile, wait for its points, and count its requests."""
    requested: set[str] = set()
    foreign: set[str] = set()
    context = browser.new_context(viewport=WINDOW)
    try:
        with _served(root) as origin:
            page = context.new_page()

            def route_request(route: Any) -> None:
                url = route.request.url
                if url.startswith((origin, "blob:", "data:")):
                    requested.add(urlsplit(url).path)
                    route.continue_()
                else:
                    foreign.add(url)
                    route.abort()

            page.route("**/*", route_request)
            began = time.perf_counter()
            page.goto(origin + path, wait_until="commit")
            points_s = _until_points(page, began, foreign)
            page.wait_for_timeout(3_000)
    finally:
        context.close()
    files = [root / name.lstrip("/") for name in requested]
    files = [file / "index.html" if file.is_dir() else file for file in files]
    sent = [file for file in files if file.is_file()]
    return {"points_s": points_s, "requests": len(requested), "foreign": len(foreign), "sent": sum(map(_packed, sent))}


def _until_points(page: Page, began: float, blocked: set[str]) -> float | None:
    import numpy as np
    from PIL import Image
    from playwright.sync_api import Error

    while time.perf_counter() - began < (BLOCKED_TIMEOUT_S if blocked else POINTS_TIMEOUT_S):
        try:
            screenshot = page.screenshot(clip=MIDDLE, timeout=5_000)  # pyright: ignore[reportArgumentType]
        except Error:
            # The browser is busy and cannot take a screenshot yet.
            continue
        picture = np.asarray(Image.open(io.BytesIO(screenshot)).convert("RGB")).astype(int)
        background = np.median(picture.reshape(-1, 3), axis=0)
        if (np.abs(picture - background).max(axis=2) > 40).sum() > MIN_DRAWN_PIXELS:
            return time.perf_counter() - began
    return None


def _packed(path: Path) -> int:
    data = path.read_bytes()
    return min(len(data), len(gzip.compress(data, 6)))


def _row(visits: list[dict[str, Any]], root: Path, name: str) -> dict[str, Any]:
    times = [visit["points_s"] for visit in visits if visit["points_s"] is not None]
    return {
        "points_s": statistics.median(times) if times else None,
        "requests": visits[-1]["requests"],
        "foreign": visits[-1]["foreign"],
        "sent_gzip_kb": visits[-1]["sent"] / 1e3,
        "on_disk_mb": sum(path.stat().st_size for path in _written(root, name)) / 1e6,
    }


def _written(root: Path, name: str) -> list[Path]:
    folders = [root / "viewer", *root.glob("maps/*/viewer")] if name == OURS else [root]
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------------------------ in a fresh process


def write_rows(workspace: str, path: str) -> dict[str, Any]:
    """Write positions, texts and labels of the workspace's map for the other programs."""
    import polars as pl

    import latentscale

    rows = latentscale.open(workspace).the_map().documents().select("row_id", "x", "y", "text", "label")
    frame = rows.collect()
    frame.with_columns(pl.col("label").fill_null("Unlabelled")).write_parquet(path)
    return {"rows": len(frame)}
