"""Data sets that Hugging Face `datasets` saved to a disk: ``state.json`` says which files belong to them."""

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
    """Refuse a saved data set of which a file is missing.

    Parameters
    ----------
    states : list of InputFile
        Files named ``state.json``; one that is something else is ignored.
    files : InputTable
        What is read.

    Raises
    ------
    CorpusError
        With the name of the first file that is missing.
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
