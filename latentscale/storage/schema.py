"""The schema number of JSON objects of a workspace, written into each and checked on reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentscale.config import READ_SCHEMAS
from latentscale.errors import WorkspaceError
from latentscale.file_names import argument
from latentscale.storage.objects import Store
from latentscale.version import __version__


def check_schema(store: Store, name: str, values: Mapping[str, Any]) -> None:
    """Check the schema number of an object.

    Parameters
    ----------
    name : str
        Name of the object.
    values : mapping
        Its content: ``schema``, and ``latentscale`` (the version that wrote it) if recorded.

    Raises
    ------
    WorkspaceError
        If this version does not support its schema.
    KeyError
        If it has none.
    """
    found = values["schema"]
    if found in READ_SCHEMAS:
        return
    older = isinstance(found, int) and found < READ_SCHEMAS[0]
    writer = f"LatentScale {values['latentscale']}" if "latentscale" in values else ""
    writer = writer or ("an earlier version of LatentScale (0.1)" if older else "a later version of LatentScale")
    raise WorkspaceError(
        f"{name} has schema {found!r} and was written by {writer}; LatentScale {__version__} reads schema "
        f"{' and '.join(map(str, READ_SCHEMAS))}",
        where=store.url,
        hint=f"latentscale migrate {argument(store.url)} --out NEW makes one of this version, from the same corpus "
        "and settings."
        if older
        else "Install that version, or start a new workspace with --out.",
    )
