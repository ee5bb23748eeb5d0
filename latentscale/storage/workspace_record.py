"""``workspace.json``: the corpus of a workspace; the first object written, and never changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

from latentscale.config import NAME, JobConfig
from latentscale.errors import DamagedObjectError, MissingObjectError, StorageError, WorkspaceError
from latentscale.file_names import argument
from latentscale.redaction import without_signatures
from latentscale.storage.objects import Store
from latentscale.storage.provenance import now
from latentscale.storage.sealed import seal, unseal
from latentscale.version import __version__

OBJECT = "workspace.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceRecord:
    """The content of ``workspace.json``.

    Attributes
    ----------
    name : str
    text_column : str
        Text column of the document shards.
    id_column : str or None
    corpus : dict
        The corpus settings with which the workspace was created.
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
        If there is no workspace, or it has another schema version.
    """
    data = store.find_bytes(OBJECT)
    if data is None:
        raise WorkspaceError(
            f"{store.url} is not a workspace: it has no {OBJECT}",
            hint="latentscale run CORPUS --text COLUMN --out WORKSPACE makes one.",
        )
    try:
        values = unseal(store, OBJECT, data)
        known = {one.name for one in fields(WorkspaceRecord)}
        return WorkspaceRecord(**{key: value for key, value in values.items() if key in known})
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedObjectError(
            f"{OBJECT} is damaged: {error}",
            where=store.path(OBJECT),
            hint=f"latentscale repair {argument(store.url)} writes it again, from what the first run recorded.",
        ) from error


def claim_workspace(
    store: Store,
    config: JobConfig,
    *,
    text_column: str,
    id_column: str | None,
    sources: Sequence[str],
    unit_keys: pa.Array | None,
) -> WorkspaceRecord:
    """Open the workspace for this corpus, or create it.

    Parameters
    ----------
    sources : sequence of str
        Sources of the corpus, as absolute paths or URLs.
    unit_keys : pyarrow.Array of strings, or None
        Keys of the planned units of work. A corpus under another path counts as the same one if the workspace contains
        shards of it. None: the corpus was not listed.

    Raises
    ------
    WorkspaceError
        If the folder is the workspace of another corpus, or contains something else.
    StorageError
        If the store does not give back what was written.
    """
    if unit_keys is None:
        return read_workspace(store)
    identity = _identity(store, config, sources)
    if not store.exists(OBJECT):
        # Objects may exist without the record: a data frame passed from Python is uploaded first, and the record may
        # have been lost by the store or in a power failure.
        # Stops early, so as not to list a whole home folder or disk.
        other = store.find_first(lambda name: not _is_of_first_run(name))
        # A concurrent run may have created it since.
        if other is not None and not store.exists(OBJECT):
            raise WorkspaceError(
                f"{store.url} is not empty and is not a workspace (it holds {other!r})",
                hint="Choose an empty or a new folder with --out.",
            )
        if other is None:
            return _create(store, config, text_column, id_column, identity)
    record = read_workspace(store)
    # An omitted text setting equals the default spelled out.
    same_fields = (record.text_column, record.id_column, record.corpus["text"] or record.text_column) == (
        text_column,
        id_column,
        identity["text"] or text_column,
    )
    if same_fields and record.corpus["sources"] == identity["sources"]:
        return record
    if not any(name.endswith(".parquet") for name in store.list("snapshots")):
        # No ingest has ever finished: a first attempt with a wrong column must not block the folder.
        return _create(store, config, text_column, id_column, identity)
    if not same_fields:
        held, asked = record.corpus["text"] or record.text_column, config.corpus.text or text_column
        raise WorkspaceError(
            f"{store.url} has the text {held!r} and the id {record.id_column!r}, not {asked!r} and {id_column!r}",
            hint="Choose another folder with --out, or the same --text and --id.",
        )
    planned = set(unit_keys.to_pylist())
    if not any(name.rsplit("/", 1)[1].rsplit("-", 1)[0] in planned for name in store.list("documents")):
        raise WorkspaceError(
            f"{store.url} belongs to another corpus: {', '.join(record.corpus['sources'])}",
            hint="Choose another folder with --out.",
        )
    return record


# Folders to which the first run of a workspace writes before its first snapshot.
_BEGINNING = re.compile(
    r"uploads/[0-9a-f]+\.\w+|(documents|rejects)/(?P<kk>[0-9a-f]{2})/(?P=kk)[\w.-]+\.parquet"
    r"|receipts/documents/[0-9a-f]{16}\.parquet|(runs|leases|attempts)/\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{6}[/.].+"
)


def _is_of_first_run(name: str) -> bool:
    return _BEGINNING.fullmatch(name) is not None


def _create(
    store: Store, config: JobConfig, text_column: str, id_column: str | None, corpus: dict[str, Any]
) -> WorkspaceRecord:
    name = config.name or default_name(store)
    return restore_workspace(
        store, name=name, text_column=text_column, id_column=id_column, corpus=corpus, created=now()
    )


def restore_workspace(
    store: Store, *, name: str, text_column: str, id_column: str | None, corpus: dict[str, Any], created: str
) -> WorkspaceRecord:
    """Write ``workspace.json`` with these values, as ``WorkspaceRecord`` has them.

    Raises
    ------
    StorageError
        If the store does not give back what was written.
    """
    record = WorkspaceRecord(
        name=name, text_column=text_column, id_column=id_column, corpus=dict(corpus), created=created
    )
    data = seal({"latentscale": __version__, **asdict(record)})
    store.put_bytes(OBJECT, data)
    # Read back, to detect a store that reports success without storing anything.
    try:
        kept = store.read_bytes(OBJECT) == data
    except MissingObjectError:
        kept = False
    if not kept:
        raise StorageError(
            f"{store.url} does not give back what was written to {OBJECT}",
            where=store.path(OBJECT),
            hint="Something between here and the store answers in its place. When that is mended, run the same command "
            "again.",
        )
    return record


def default_name(store: Store) -> str:
    """Return the last part of the workspace's path, if it is a valid name."""
    last = store.url.rstrip("/").rsplit("/", 1)[-1]
    return last if NAME.match(last) else "map"


def _identity(store: Store, config: JobConfig, sources: Sequence[str]) -> dict[str, Any]:
    """Return the corpus settings with absolute sources."""
    values = config.corpus.model_dump(mode="json")
    if config.corpus.storage == config.storage and not store.is_local:
        # Storage settings of the workspace itself, which may change.
        values["storage"] = None
    # A presigned URL grants access while it is valid, so its query is removed.
    return values | {"sources": [without_signatures(source) for source in sources]}
