"""Documents passed to ``ls.run`` and ``Workspace.update``, turned into the settings of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentscale.config.given import with_corpus, with_setting
from latentscale.errors import RequestError, WorkspaceError
from latentscale.pipeline.additions import without_known_texts
from latentscale.pipeline.history import needed_map
from latentscale.pipeline.observe import Observer
from latentscale.pipeline.recorded_settings import RecordedSettings
from latentscale.readers.inputs import absolute_source
from latentscale.readers.python_data import resolve_corpus
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import OBJECT as WORKSPACE
from latentscale.storage.workspace_record import read_workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class InputDocuments:
    """Documents passed to ``ls.run`` or ``Workspace.update``.

    Attributes
    ----------
    source : path, list of paths, frame, list of texts or iterator, or None
    texts : list of str, optional
        Instead of ``source``: always texts, never paths.
    vectors : str, Path or array of shape (n, d), optional
        A column, a file of vectors, or the vectors.
    """

    source: Any
    texts: Any = None
    vectors: Any = None


def settings_of_run(
    documents: InputDocuments,
    settings: Mapping[str, Any],
    held: RecordedSettings,
    *,
    corpus_settings: Mapping[str, Any],
    title: str | None = None,
) -> dict[str, Any]:
    """Build the settings of a run; in-memory data is written to ``uploads/``.

    Raises
    ------
    LatentScaleError
        If a setting is given twice, the corpus is invalid, or the workspace already has another corpus.
    """
    vectors = documents.vectors
    if isinstance(vectors, str | Path):
        # A column, or a file of vectors.
        corpus_settings, vectors_given, vectors = {**corpus_settings, "vectors": str(vectors)}, True, None
    else:
        vectors_given = vectors is not None
    groups = with_corpus(with_setting(settings, "publish", "title", title), corpus_settings)
    # Validate settings before data is written.
    probe = {**groups["corpus"], "sources": ["demo"]}
    if vectors_given:
        groups = with_setting(groups, "embed", "model", "column")
        probe.setdefault("vectors", "vectors")
    held.job({**groups, "corpus": probe})
    given = resolve_corpus(
        documents.source,
        held.store,
        texts=documents.texts,
        vectors=vectors,
        vectors_name=groups["corpus"].get("vectors"),
        check=lambda name: _check_is_new_data(held.store, name),
    )
    groups["corpus"] = {"sources": given.sources, **groups["corpus"]}
    if given.vectors is not None:
        groups["corpus"]["vectors"] = given.vectors
    return groups


def _check_is_new_data(store: Store, name: str) -> None:
    """Check that data is the corpus of the workspace, if it has one already."""
    if not store.exists(WORKSPACE) or store.exists(name) or not store.list("snapshots"):
        return
    raise WorkspaceError(
        f"{store.url} holds other documents already",
        hint=f"ls.open({store.url!r}).update(data) adds these to them, and with complete=True also removes what "
        "they lack; or choose another folder with out=.",
    )


def add_documents(
    documents: InputDocuments, values: dict[str, Any], held: RecordedSettings, observer: Observer, *, complete: bool
) -> None:
    """Add documents to the sources of an update, or replace these by them.

    Parameters
    ----------
    documents : InputDocuments
    values : dict
        Settings of the update; their corpus is changed in place.
    held : RecordedSettings
    observer : Observer
        Notified of rows that are on the map already.
    complete : bool
        Whether the documents replace all earlier ones.

    Raises
    ------
    RequestError
        If the map was made from texts and vectors are given, or its corpus has a limit.
    """
    corpus, store = values["corpus"], held.store
    column = corpus.get("vectors")
    if documents.vectors is not None and column is None:
        raise RequestError(
            "the map was made from texts, and vectors= would need another space",
            hint="Leave out vectors=: the model of the map embeds the texts.",
        )
    if corpus.get("limit") is not None and not complete:
        raise RequestError(
            f"the map was made with limit={corpus['limit']}, so that what comes after these documents is not read",
            hint='Lift it: ws.update(frame, corpus={"limit": None}), or give all documents with complete=True.',
        )
    known = 0

    def keep(path: Path) -> Path | None:
        nonlocal known
        record = read_workspace(store)
        if complete or record.id_column is not None:
            return path
        snapshot = read_snapshot(store, str(needed_map(store).request["snapshot"]))
        kept, known = without_known_texts(path, held.job(values), store, snapshot, text_column=record.text_column)
        return kept

    given = resolve_corpus(
        documents.source,
        store,
        texts=documents.texts,
        vectors=documents.vectors,
        vectors_name=column if documents.vectors is not None else None,
        keep=keep,
    )
    sources = [absolute_source(source) for source in given.sources]
    # The last document of an id wins, so repeated sources are moved to the end.
    others = [] if complete else [source for source in corpus["sources"] if source not in sources]
    values["corpus"] = {**corpus, "sources": [*others, *sources]}
    if known:
        observer.note(
            f"{known:,} rows have a text that is on the map already: they are the same documents, and nothing of "
            "them was changed; with an id column, or complete=True, a row replaces the one before"
        )
