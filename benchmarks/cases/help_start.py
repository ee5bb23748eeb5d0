"""How long ``latentscale --help`` takes."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.corpora import Context
from benchmarks.processes import fresh, latentscale, run_command
from benchmarks.report import Result, Target

REPEATS = 10
HEAVY = ("torch", "ray", "numba", "umap", "sklearn", "pandas", "polars", "pyarrow", "numpy")
FORBIDDEN = ("torch", "ray", "numba", "umap")


def run(context: Context) -> Result:
    """Time the installed command, an interpreter that does nothing, and one that imports typer."""
    script = Path(sys.executable).with_name("latentscale")
    commands = {
        "latentscale --help": [str(script), "--help"] if script.exists() else latentscale("--help"),
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import typer'": [sys.executable, "-c", "import typer"],
    }
    usages_by_name = {name: [run_command(command)[0] for _ in range(REPEATS)] for name, command in commands.items()}
    rows: list[dict[str, Any]] = [
        {
            "what": name,
            "wall_s": statistics.median(u.wall_s for u in usages),
            "slowest_wall_s": max(u.wall_s for u in usages),
            "cpu_s": statistics.median(u.cpu_s for u in usages),
        }
        for name, usages in usages_by_name.items()
    ]
    imported = fresh(imports)[1]["imported"]
    return Result(
        title="The help of the command, beside the interpreter alone.",
        parameters={"repeats": REPEATS},
        rows=rows,
        targets=[
            Target(what="latentscale --help, median wall time", value=rows[0]["wall_s"], limit=0.5, unit="s"),
            Target(
                what="of torch, ray, numba and umap imported by it",
                value=len(set(imported) & set(FORBIDDEN)),
                limit=0,
            ),
        ],
        notes=[f"Heavy packages that it imports: {', '.join(imported) or 'none'}."],
    )


def imports() -> dict[str, Any]:
    """Print the help in this process and list the heavy packages that were imported."""
    import contextlib
    import io

    from latentscale.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main(["--help"])
    return {"imported": [name for name in HEAVY if name in sys.modules]}
