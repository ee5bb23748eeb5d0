"""Files named in label settings: their contents are stored with the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentscale.errors import ConfigError
from latentscale.labelers import labeler_class
from latentscale.labelers.edit_file import edits_of
from latentscale.labelers.edits import ALTERING
from latentscale.labelers.keyphrases.stop_words import stop_words_of
from latentscale.pipeline.context import RunContext
from latentscale.storage.artifacts import Record, find_record


def settle_label_files(context: RunContext) -> None:
    """Replace the file names in ``label.stop_words``, ``edits`` and ``options.file`` by the contents.

    Later runs do not need the files.

    Raises
    ------
    ConfigError
        If a file is missing or invalid, or if edits would change values of a column.
    """
    label = context.config.label
    settled: dict[str, Any] = {}
    if label.stop_words is not None:
        settled["stop_words"] = stop_words_of(label.stop_words)
    if label.edits is not None:
        edits = settled["edits"] = edits_of(label.edits)
        if isinstance(label.edits, str) and not edits:
            context.observer.note(f"{label.edits} has no edit: labels are as they were found")
        alters = next((name for name in ALTERING for edit in edits if edit.get(name)), None)
        if alters and context.config.cluster.method == "column":
            raise ConfigError(
                f"label.edits: {alters} alters clusters, and with cluster.method: column these are the column's values",
                hint="Rename them instead, or change the values of the column.",
            )
    names = label.options.get("file") if "members" in labeler_class(label.method).needs else None
    if isinstance(names, str):
        entries = [_plain(edit) for edit in edits_of(names)]
        settled["options"] = {**label.options, "file": entries}
    if settled:
        context.config = context.config.model_copy(update={"label": label.model_copy(update=settled)})
        context.run.job["label"] |= {
            name: value if isinstance(value, dict) else [_plain(one) for one in value]
            for name, value in settled.items()
        }


def report_pending_edits(context: RunContext, parent: Record) -> None:
    """Notify that new edits take effect with the next refit: an update does not change labels."""
    made = find_record(context.store, "labels", str(parent.request["labels"]))
    given = [dict(edit) for edit in edits_of(context.config.label.edits)]
    if made is not None and given != list(made.request.get("edits", ())):
        context.observer.note(
            "label.edits are not those of the map: an update keeps its labels, and a refit applies them (--refit)"
        )


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
