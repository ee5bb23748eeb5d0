"""Build the reference of the Python API from its docstrings: python docs/build_reference.py FOLDER (or `make docs`)."""

from __future__ import annotations

import sys
from pathlib import Path

import pdoc
import pdoc.render

import latentscale

# What users call, then what another package builds on (docs/extend.md).
MODULES = (
    "latentscale",
    "latentscale.workspace",
    "latentscale.map",
    "latentscale.config",
    "latentscale.errors",
    "latentscale.registry",
    "latentscale.stages.stage",
    "latentscale.stages.context",
    "latentscale.embedders.protocol",
    "latentscale.backends.protocol",
    "latentscale.backends.results",
    "latentscale.labelers.protocol",
)


def build(folder: Path) -> Path:
    """Write the pages into ``folder``, and return the first one."""
    for name in latentscale.__all__:
        # The package imports its names when they are first used; pdoc looks at what is there.
        vars(latentscale)[name] = getattr(latentscale, name)
    pdoc.render.configure(docformat="numpy", show_source=False, footer_text="LatentScale")
    pdoc.pdoc(*MODULES, output_directory=folder)
    return folder / "index.html"


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
