"""Paths of a job file are relative to the file: a job is the same from any folder, so that cron need not `cd`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from latentscale.errors import ConfigError


def relative_to_file(values: dict[str, Any], path: str | Path) -> None:
    """Make the relative local paths of a job file mean the same from any folder, in place.

    These are ``corpus.sources``, ``exclude`` and ``only``, ``vectors`` where it is a file and no pattern beside the
    sources, ``out``, ``label.stop_words``, ``edits`` and ``options.file``, and ``embed.model`` and
    ``engine.runtime_env`` where they name what is there. URLs and ``demo`` stay as they are.

    Parameters
    ----------
    values : dict
        Nested settings, as ``read_yaml`` gives them.
    path : str or Path
        The file.

    Raises
    ------
    ConfigError
        If a path names nothing next to the file, but something in the folder of the shell.
    """
    folder = Path(os.path.relpath(Path(path).absolute().parent))
    if folder == Path():
        return
    corpus = cast("dict[str, Any]", values.get("corpus") or {})
    for name in ("sources", "exclude", "only"):
        given: Any = corpus.get(name)
        if isinstance(given, str):
            corpus[name] = _moved(given, folder, f"corpus.{name}", path)
        elif isinstance(given, list):
            listed = cast("list[Any]", given)
            corpus[name] = [
                _moved(one, folder, f"corpus.{name}", path) if isinstance(one, str) else one for one in listed
            ]
    vectors: Any = corpus.get("vectors")
    # A file; anything else is a column, and {folder} is that of each table.
    if isinstance(vectors, str) and vectors.endswith((".npy", ".parquet")) and not vectors.startswith("{folder}"):
        corpus["vectors"] = _moved(vectors, folder, "corpus.vectors", path)
    if isinstance(values.get("out"), str):
        values["out"] = _moved(values["out"], folder, "out", path)
    label = cast("dict[str, Any]", values.get("label") or {})
    for name in ("stop_words", "edits"):
        if isinstance(label.get(name), str):
            label[name] = _moved(label[name], folder, f"label.{name}", path)
    options = cast("dict[str, Any]", label.get("options") or {})
    if isinstance(options.get("file"), str):
        options["file"] = _moved(options["file"], folder, "label.options.file", path)
    for group, name in (("embed", "model"), ("engine", "runtime_env")):
        held = cast("dict[str, Any]", values.get(group) or {})
        given = held.get(name)
        # Anything else is the name of a model, or of an embedder.
        if isinstance(given, str) and _is_relative(given) and (folder / given).exists():
            held[name] = str(folder / given)


def _is_relative(value: str) -> bool:
    return (
        value != "demo"
        and not value.startswith("selection-")
        and "://" not in value
        and not value.startswith("~")
        and not Path(value).is_absolute()
    )


def _moved(value: str, folder: Path, key: str, path: str | Path) -> str:
    if not _is_relative(value):
        return value
    moved = folder / value
    # A pattern is there if the folder before its first wildcard is.
    there, here = (Path(str(place).split("*")[0].split("?")[0].split("[")[0]) for place in (moved, Path(value)))
    if here.exists() and not there.exists():
        raise ConfigError(
            f"{key}: {value} is in this folder, but paths of a job file are relative to the file, and {moved} does not "
            "exist",
            where=str(path),
            hint=f"Write {os.path.relpath(value, folder)} there, or a full path.",
        )
    return os.path.normpath(moved) + ("/" if value.endswith("/") else "")
