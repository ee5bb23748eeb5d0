"""Data sets saved by Hugging Face `datasets`, whose files are listed in ``state.json``."""

from __future__ import annotations

import json
import posixpath

from latentscale.config import CorpusConfig
from latentscale.errors import CorpusError
from latentscale.file_names import shown
from latentscale.readers.input_table import InputFile, InputTable
from latentscale.readers.opening import open_input

STATE = "state.json"
_LARGEST = 16 << 20


def check_complete(states: list[InputFile], files: InputTable, corpus: CorpusConfig) -> None:
    """Reject a saved data set with missing files.

    Parameters
    ----------
    states : list of InputFile
        Files named ``state.json``; unrelated ones are ignored.
    files : InputTable
        The files of the corpus.

    Raises
    ------
    CorpusError
        With the name of the first missing file.
    """
    if not states:
        return
    paths = set(files.paths.to_pylist())
    for state in states:
        with open_input(state, corpus.storage) as stream:
            data = stream.read(_LARGEST)
        folder = posixpath.dirname(state.path)
        for name in _names(data):
            path = f"{folder}/{name}" if folder else name
            if path not in paths:
                raise CorpusError(
                    f"{shown(path)} is missing, which {shown(state.path)} lists as a part of the data set",
                    where=state.url,
                    hint="Fetch or save the data set again.",
                )


def _names(data: bytes) -> list[str]:
    try:
        listed = json.loads(data)["_data_files"]
        return [str(one["filename"]) for one in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
