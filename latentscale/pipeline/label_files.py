"""Files that the settings of labels name: what they hold is kept with the run, whatever becomes of them."""

from __future__ import annotations

from typing import Any

from latentscale.labelers.keyphrases.stop_words import stop_words_of
from latentscale.pipeline.context import RunContext


def settle_label_files(context: RunContext) -> None:
    """Put the words of ``label.stop_words`` in place of the file's name, so that a later run needs no file.

    Raises
    ------
    ConfigError
        If a file is not there, or is not what it should be.
    """
    label = context.config.label
    settled: dict[str, Any] = {}
    if label.stop_words is not None:
        settled["stop_words"] = stop_words_of(label.stop_words)
    if settled:
        context.config = context.config.model_copy(update={"label": label.model_copy(update=settled)})
        context.run.job["label"] |= {name: list(value) for name, value in settled.items()}
