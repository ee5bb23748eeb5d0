"""``workspace.json``: which corpus a workspace belongs to, written once and first."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from latentscale.config import NAME, JobConfig
from latentscale.errors import DamagedObjectError, WorkspaceError
from latentscale.provenance import now
from latentscale.redaction import without_signatures
from latentscale.storage.inputs import absolute_source
from latentscale.storage.objects import Store

OBJECT = "workspace.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceRecord:
    """What ``workspace.json`` says.

    Attributes
    ----------
    name : str
    text_column : str
        Column of the document shards that holds the text.
    id_column : str or None
    corpus : dict
        The corpus settings with which the workspace was begun.
    created : str
    """

    name: str
    text_column: str
    id_column: str | None
    corpus: dict[str, Any]
    created: str


def read_workspace(store: Store) -> WorkspaceRecord:
    """Read ``workspace.json``.

    Raises
    ------
    WorkspaceError
        If there is no workspace.
    """
    if not store.exists(OBJECT):
        raise WorkspaceError(
            f"{store.url} is not a workspace: it has no {OBJECT}",
            hint="latentscale run CORPUS --text COLUMN --out WORKSPACE makes one.",
        )
    try:
        values = json.loads(store.read_bytes(OBJECT))
        values.pop("schema")
        return WorkspaceRecord(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObjectError(f"{OBJECT} is damaged: {error}", where=store.path(OBJECT)) from error


def claim_workspace(
    store: Store, config: JobConfig, *, text_column: str, id_column: str | None, unit_keys: pa.Array | None
) -> WorkspaceRecord:
    """Open the workspace for this corpus, or begin it.

    Parameters
    ----------
    unit_keys : pyarrow.Array of strings, or None
        Keys of the planned units of work. A corpus under another path is the same corpus if the workspace holds
        shards of it. None: the corpus was not looked at.

    Raises
    ------
    WorkspaceError
        If the place belongs to another corpus, or to something that is no workspace.
    """
    if unit_keys is None:
        return read_workspace(store)
    if not store.exists(OBJECT):
        # A frame handed over in Python is put there first.
        others = [name for name in store.list(brief=True) if not name.startswith("uploads/")]
        # Another run may have begun it since: then this is its workspace.
        if others and OBJECT not in others:
            raise WorkspaceError(
                f"{store.url} is not empty and is not a workspace (it holds {others[0]!r})",
                hint="Choose an empty or a new place with --out.",
            )
        if not others:
            return _begin(store, config, text_column, id_column)
    record = read_workspace(store)
    identity = _identity(store, config)
    same_fields = (record.text_column, record.id_column, record.corpus["text"]) == (
        text_column,
        id_column,
        identity["text"],
    )
    if same_fields and record.corpus["sources"] == identity["sources"]:
        return record
    if not any(name.endswith(".parquet") for name in store.list("snapshots")):
        # Nothing was ever ingested to the end: a first try with a wrong column must not spoil the place.
        return _begin(store, config, text_column, id_column)
    if not same_fields:
        held, asked = record.corpus["text"] or record.text_column, config.corpus.text or text_column
        raise WorkspaceError(
            f"{store.url} has the text {held!r} and the id {record.id_column!r}, not {asked!r} and {id_column!r}",
            hint="Choose another place with --out, or the same --text and --id.",
        )
    planned = set(unit_keys.to_pylist())
    if not any(name.rsplit("/", 1)[1].rsplit("-", 1)[0] in planned for name in store.list("documents")):
        raise WorkspaceError(
            f"{store.url} belongs to another corpus: {', '.join(record.corpus['sources'])}",
            hint="Choose another place with --out.",
        )
    return record


def _begin(store: Store, config: JobConfig, text_column: str, id_column: str | None) -> WorkspaceRecord:
    record = WorkspaceRecord(
        name=config.name or default_name(store),
        text_column=text_column,
        id_column=id_column,
        corpus=_identity(store, config),
        created=now(),
    )
    store.put_bytes(OBJECT, json.dumps({"schema": 1, **asdict(record)}, indent=1, ensure_ascii=False).encode())
    return record


def default_name(store: Store) -> str:
    """The last part of the workspace's path, where that can be a name."""
    last = store.url.rstrip("/").rsplit("/", 1)[-1]
    return last if NAME.match(last) else "map"


def _identity(store: Store, config: JobConfig) -> dict[str, Any]:
    """The corpus settings, with sources that mean the same from any folder."""
    values = config.corpus.model_dump(mode="json")
    if config.corpus.storage == config.storage and not store.is_local:
        # The workspace's own way to its store, which may be another one tomorrow.
        values["storage"] = None
    # A presigned address is a key for as long as it is valid.
    return values | {"sources": [without_signatures(absolute_source(source)) for source in config.corpus.sources]}
