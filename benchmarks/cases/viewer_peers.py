"""The page beside the pages that Embedding Atlas and DataMapPlot write of the same points, texts and labels."""

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
# The middle of the window holds points, and no panel, on each of the pages.
MIDDLE = {"x": 400.0, "y": 150.0, "width": 400.0, "height": 500.0}
# Pixels there that differ from what is most of it, when points are seen.
INKED = 2_000
PATIENCE_S = 60
# Of a page whose scripts were refused, nothing is to be seen any more.
WITHOUT_SCRIPTS_S = 8
# Of another program that writes its page: processor time of all its threads.
WRITE_LIMIT_CPU_S, WRITE_LIMIT_MB = 240, 12_000
# Becomes a command, the third argument and what follows it, that may use so many seconds and megabytes.
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
    """Pages of so many documents.

    Attributes
    ----------
    documents : int
    folder : Path
        Of a workspace with LatentScale's page.
    rows : Path
        The same places, texts and labels as parquet, for the others.
    """

    documents: int
    folder: Path
    rows: Path


def run(context: Context) -> Result:
    """Write the three pages of a thousand, eight thousand and all documents, and open each as often, in turn."""
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
    """Let the other programs write their pages of each size, open all, and count what they cost."""
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    unfinished: list[str] = []
    for size in sizes:
        found, failed = _compared(context, size, rounds)
        unfinished += failed
        rows += found
        ours = found[0]
        targets += [
            Target(what=f"{row['what']}: {what}", value=ours[key] / row[key], limit=0.5)
            for row in found[1:]
            for key, what in (("sent_gzip_kb", "bytes sent"), ("points_s", "time to the first points"))
            if row.get(key) and ours[key]
        ]
    return Result(
        title="A static page of the same documents: what is written, sent, and how soon points are seen.",
        parameters={
            "rounds": rounds,
            "write_limit_cpu_s": WRITE_LIMIT_CPU_S,
            "write_limit_mb": WRITE_LIMIT_MB,
            "points_limit_s": PATIENCE_S,
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
    """A row for each page of a size, LatentScale's first, and a sentence for each that was not written or drawn."""
    pages = {OURS: (size.folder, "viewer/")}
    made: dict[str, dict[str, float]] = {OURS: {}}
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
            over = f"ended with -{int(signal.SIGXCPU)}" in str(error) or f"ended with -{int(signal.SIGKILL)}" in str(
                error
            )
            why = "more time" if over else str(error).strip().splitlines()[-1][:160]
            failed.append(
                f"{name}, {size.documents:,} documents: not written within {WRITE_LIMIT_CPU_S} CPU-s and "
                f"{WRITE_LIMIT_MB:,} MB of data: {why}."
            )
            continue
        made[name] = {"write_cpu_s": usage.cpu_s, "write_peak_mb": usage.peak_mb}
        pages[name] = (target, "")
    opened: dict[str, list[dict[str, Any]]] = {name: [] for name in pages}
    for _ in range(rounds):
        for name, (root, path) in pages.items():
            # A browser of its own: one that a page has used up says nothing of the next.
            with _browser() as browser:
                opened[name].append(_open(browser, root, path))
    failed += [
        f"{name}, {size.documents:,} documents: no points within {PATIENCE_S} s in {rounds} of {rounds} rounds."
        for name, found in opened.items()
        if name != DATAMAPPLOT and not any(one["points_s"] for one in found)
    ]
    rows = [
        {"what": f"{name}, {size.documents:,}", **_row(opened[name], pages[name][0], name), **made[name]}
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

    found = filter(None, map(shutil.which, BROWSERS))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=next(found), args=CHROMIUM)
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
    """Open a page in a profile of its own, wait for its points, and count what it asked for."""
    asked: set[str] = set()
    foreign: set[str] = set()
    context = browser.new_context(viewport=WINDOW)
    try:
        with _served(root) as origin:
            page = context.new_page()

            def decide(route: Any) -> None:
                url = route.request.url
                if url.startswith((origin, "blob:", "data:")):
                    asked.add(urlsplit(url).path)
                    route.continue_()
                else:
                    foreign.add(url)
                    route.abort()

            page.route("**/*", decide)
            began = time.perf_counter()
            page.goto(origin + path, wait_until="commit")
            points_s = _until_points(page, began, foreign)
            page.wait_for_timeout(3_000)
    finally:
        context.close()
    files = [root / name.lstrip("/") for name in asked]
    files = [file / "index.html" if file.is_dir() else file for file in files]
    sent = [file for file in files if file.is_file()]
    return {"points_s": points_s, "requests": len(asked), "foreign": len(foreign), "sent": sum(map(_packed, sent))}


def _until_points(page: Page, began: float, refused: set[str]) -> float | None:
    import numpy as np
    from PIL import Image
    from playwright.sync_api import Error

    while time.perf_counter() - began < (WITHOUT_SCRIPTS_S if refused else PATIENCE_S):
        try:
            shot = page.screenshot(clip=MIDDLE, timeout=5_000)  # pyright: ignore[reportArgumentType]
        except Error:
            # A browser that is busy with the page has no picture of it yet.
            continue
        picture = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
        ground = np.median(picture.reshape(-1, 3), axis=0)
        if (np.abs(picture - ground).max(axis=2) > 40).sum() > INKED:
            return time.perf_counter() - began
    return None


def _packed(path: Path) -> int:
    data = path.read_bytes()
    return min(len(data), len(gzip.compress(data, 6)))


def _row(opened: list[dict[str, Any]], root: Path, name: str) -> dict[str, Any]:
    seen = [one["points_s"] for one in opened if one["points_s"] is not None]
    return {
        "points_s": statistics.median(seen) if seen else None,
        "requests": opened[-1]["requests"],
        "foreign": opened[-1]["foreign"],
        "sent_gzip_kb": opened[-1]["sent"] / 1e3,
        "on_disk_mb": sum(path.stat().st_size for path in _written(root, name)) / 1e6,
    }


def _written(root: Path, name: str) -> list[Path]:
    folders = [root / "viewer", *root.glob("maps/*/viewer")] if name == OURS else [root]
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------------------------ in a fresh process


def write_rows(workspace: str, path: str) -> dict[str, Any]:
    """Write places, texts and labels of the workspace's map for the other programs."""
    import polars as pl

    import latentscale

    rows = latentscale.open(workspace).the_map().documents().select("row_id", "x", "y", "text", "label")
    frame = rows.collect()
    frame.with_columns(pl.col("label").fill_null("Unlabelled")).write_parquet(path)
    return {"rows": len(frame)}
