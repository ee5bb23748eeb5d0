"""Metrics of a run as a Prometheus text file, for the textfile collector of node_exporter or a sidecar."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from latentscale.errors import ConfigError, explain_os_error, refuse_stream

_LAST_SUCCESS = "latentscale_last_success_timestamp_seconds"
# Key in the event ``run done``, metric name, help text.
_OF_THE_MAP = (
    ("documents", "latentscale_documents", "Documents of the current map."),
    ("clusters", "latentscale_clusters", "Clusters of the finest layer of the current map."),
    ("noise", "latentscale_noise_documents", "Documents of the current map that lie in no cluster."),
    ("added", "latentscale_documents_added", "Documents that this run added to the map."),
    ("removed", "latentscale_documents_removed", "Documents that this run removed from the map."),
    ("rejects", "latentscale_rejected_rows", "Rows of the corpus that this run could not use."),
    ("changed", "latentscale_run_changed", "1 if the run built anything, 0 if all existed already."),
    (
        "refit_due",
        "latentscale_refit_due",
        "1 if the documents added since the fit differ so much that a refit is due.",
    ),
)

# Key in the event ``embedding`` for each worker, metric name, help text.
_OF_A_WORKER = (
    ("documents_per_second", "latentscale_embed_documents_per_second", "Documents that a worker embedded a second."),
    ("tokens_per_second", "latentscale_embed_tokens_per_second", "Tokens that a worker read a second."),
    ("waiting_share", "latentscale_embed_waiting_ratio", "Share of a worker's time in which it computed nothing."),
    ("computing_seconds", "latentscale_embed_computing_seconds", "Seconds in which a worker computed."),
    ("load_seconds", "latentscale_embed_load_seconds", "Seconds in which a worker loaded its model."),
    ("halved", "latentscale_embed_halved_batches", "Batches that did not fit into the memory of a worker's device."),
)


def check_metrics_file(path: Path) -> None:
    """Check that a metrics file can be written, before the command starts.

    Raises
    ------
    ConfigError
        If its folder does not exist or is not writable, or the path is not a regular file.
    RequestError
        If it is ``-``.
    """
    refuse_stream(path)
    if not path.parent.is_dir():
        raise ConfigError(f"--metrics-file: there is no folder {path.parent}", hint="Make it, or name another file.")
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise ConfigError(
            f"--metrics-file: {path} is not a regular file", hint="Name a file, such as latentscale.prom."
        )
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--metrics-file: the folder {path.parent} cannot be written", hint="Name another file.")


def write_metrics_file(path: Path, events: Sequence[Mapping[str, Any]]) -> None:
    """Write the metrics of a run atomically, replacing those of the previous run.

    Parameters
    ----------
    path : Path
        If this run failed, the time of the last success is carried over from the existing file.
    events : sequence of mapping
        Events of an :class:`~latentscale.pipeline.observe.Observer`; the last one has the outcome of the run.

    Raises
    ------
    StorageError
        If it cannot be written.
    """
    # Collectors read files named *.prom; the temporary file must not match.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        text = metrics_text(events, before=path.read_text(encoding="utf-8") if path.exists() else "")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise explain_os_error(error, "write", str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def metrics_text(events: Sequence[Mapping[str, Any]], *, before: str = "") -> str:
    """The content of the metrics file, in the Prometheus text format 0.0.4.

    Parameters
    ----------
    events : sequence of mapping
        Events of the run.
    before : str
        The file content of the previous run.
    """
    return "".join(f"{line}\n" for line in _lines(events, before))


def _lines(events: Sequence[Mapping[str, Any]], before: str) -> Iterator[str]:
    ending = events[-1]
    code, ended = int(ending["exit_code"]), _timestamp(ending["time"])
    workspace = {"workspace": ending.get("workspace", "")}
    facts = {"run": ending.get("run", ""), "map": ending.get("map") or "", "error": ending.get("kind", "")}
    yield from _metric("latentscale_run_info", "What the other numbers are of.", [({**workspace, **facts}, 1)])
    yield from _metric("latentscale_run_exit_code", "Exit code of the last run: 0 is done.", [(workspace, code)])
    yield from _metric(
        "latentscale_run_end_timestamp_seconds", "When the last run ended, in Unix time.", [(workspace, ended)]
    )
    yield from _metric(
        "latentscale_run_duration_seconds", "Wall time of the last run.", [(workspace, float(ending["seconds"]))]
    )
    success = ended if code == 0 else _value_before(before)
    if success is not None:
        yield from _metric(_LAST_SUCCESS, "When a run last ended with exit code 0.", [(workspace, success)])
    yield from _metric(
        "latentscale_quarantined_shards",
        "Shards that the last run left out, since they kill their workers.",
        [(workspace, int(ending.get("quarantined", 0)))],
    )
    for key, name, text in _OF_THE_MAP:
        if ending.get(key) is not None:
            yield from _metric(name, text, [(workspace, float(ending[key]))])
    done = [event for event in events if event["event"] == "stage done"]
    labelled = [({**workspace, "stage": event["stage"]}, event) for event in done]
    yield from _metric(
        "latentscale_stage_duration_seconds",
        "Wall time of a stage of the last run; stages that found their artifact are not listed.",
        [(labels, float(event["seconds"])) for labels, event in labelled],
    )
    yield from _metric(
        "latentscale_stage_rows",
        "Rows that a stage of the last run went through, those finished before included.",
        [(labels, float(event["done"])) for labels, event in labelled if event["unit"] != "steps"],
    )
    for key, name, text in _OF_A_WORKER:
        yield from _metric(name, text, list(_of_workers(events, key, workspace)))


def _of_workers(
    events: Sequence[Mapping[str, Any]], key: str, workspace: Mapping[str, str]
) -> Iterator[tuple[Mapping[str, str], float]]:
    """Samples of one figure for each embedding worker, labelled by index, since process names are never reused."""
    for event in events:
        if event["event"] == "embedding":
            for number, one in enumerate(event["by_worker"]):
                if one[key] is not None:
                    yield {**workspace, "worker": str(number), "device": str(one["device"])}, float(one[key])


def _metric(name: str, text: str, samples: Sequence[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} gauge"
    for labels, value in samples:
        inside = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels.items())
        yield f"{name}{{{inside}}} {float(value)!r}"


def _escaped(text: str) -> str:
    return str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _timestamp(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _value_before(text: str) -> float | None:
    found = re.search(rf"^{_LAST_SUCCESS}\{{.*\}} ([0-9.e+]+)$", text, re.MULTILINE)
    return None if found is None else float(found[1])
