"""How the user calls this program, for printed commands that are to be copied."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from latentscale.file_names import argument

NAME = "latentscale"


def program() -> str:
    """Return ``latentscale`` if the shell finds this program by that name, else what it was called by.

    In an environment that is not activated, such as that of ``make demo``, the shell does not find it.
    """
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{argument(sys.executable)} -m {NAME}"
    if called.name != NAME or not called.is_file():
        return NAME
    found = shutil.which(NAME)
    return NAME if found and called.samefile(found) else argument(called)
