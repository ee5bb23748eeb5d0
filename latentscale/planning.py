"""Plan a job: shards, gigabytes and minutes of each stage, and what cannot fit refused before it starts."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from latentscale.config import JobConfig, protocol_of
from latentscale.errors import ResourceError
from latentscale.provenance import available_memory, available_processors
from latentscale.readers.check import check_corpus
from latentscale.readers.streams import Decompressed
from latentscale.stages.embed import opened_embedder
from latentscale.stages.ingest import plan_ingest
from latentscale.storage.input_table import COMPRESSIONS, InputFile, InputTable
from latentscale.storage.inputs import list_inputs, open_input
from latentscale.storage.objects import Store

GB = 1e9
SAMPLE_BYTES = 1 << 20
SAMPLE_FILES = 4
EXPANSION = {"none": 1.0, "gzip": 4.0, "zstd": 4.5}
PROCESS_BYTES = 400e6

# Seconds of one processor for each document of about 400 characters, measured on 63,666 package descriptions:
# benchmarks/results/pipeline_63k.json has the run. Another machine is somewhat faster or slower.
CPU_SECONDS = {
    "ingest": 2.0e-5,
    "embed": 6.9e-5,
    "neighbors": 1.2e-4,
    "project": 2.8e-4,
    "cluster": 3.2e-5,
    "label": 1.0e-4,
    "publish": 2.6e-5,
}
# How much of a stage runs on all processors at once.
PARALLEL = {"neighbors", "project"}
# Bytes of memory a document beside its vector, at the peak of the stage.
MEMORY = {
    "ingest": 0.0,
    "embed": 0.0,
    "neighbors": 6_000.0,
    "project": 4_000.0,
    "cluster": 4_000.0,
    "label": 6_000.0,
    "publish": 8_000.0,
}
GLOBAL_STAGES = ("neighbors", "project", "cluster", "label", "publish")


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """What one stage will take.

    Attributes
    ----------
    shards : int
        0 for a stage that works on the whole set at once.
    disk_gb, memory_gb, minutes : float
        Estimates.
    """

    stage: str
    shards: int
    disk_gb: float
    memory_gb: float
    minutes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """What a job will take.

    Attributes
    ----------
    documents : int
    basis : str
        How the number of documents is known.
    files, input_gb
        Of the corpus.
    stages : list of StagePlan
    notes : list of str
    """

    documents: int
    basis: str
    files: int
    input_gb: float
    stages: list[StagePlan]
    notes: list[str] = field(default_factory=list[str])


def plan_job(config: JobConfig) -> JobPlan:
    """Look at the corpus and estimate each stage. Nothing is written.

    Raises
    ------
    LatentScaleError
        If the corpus or the settings are wrong, as a run would say.
    """
    inputs = list_inputs(config.corpus)
    check = check_corpus(inputs, config.corpus, config.ingest)
    units = plan_ingest(inputs, config.corpus, config.ingest)
    documents, basis = (
        (check.rows, "counted in the footers of the files")
        if check.rows is not None
        else (_estimate_rows(inputs, config), "estimated from the first megabyte of some files")
    )
    if config.corpus.sample is not None:
        documents = round(documents * config.corpus.sample)
    if config.corpus.limit is not None:
        documents = min(documents, config.corpus.limit)
    size = int(inputs.sizes.sum())
    text_bytes = _text_bytes(inputs)
    shards = max(len(units), -(-documents // config.ingest.shard_rows))
    dim = _dimensions(config)
    itemsize = 2 if config.embed.dtype == "float16" else 4
    disk = {
        "ingest": 0.6 * text_bytes,
        "embed": documents * dim * itemsize * 0.9,
        "neighbors": documents * (config.neighbors.k or max(config.project.n_neighbors - 1, 15)) * 6.5,
        "project": documents * (2 + config.project.cluster_dimensions) * 4,
        "cluster": documents * 12,
        "label": 0.0,
        "publish": 0.5 * text_bytes + documents * 40,
    }
    # A text of 400 characters is the unit of the measured rates.
    length = max(0.2, text_bytes / max(documents, 1) / 450)
    processors = config.engine.threads or available_processors()
    stages = [
        StagePlan(
            stage=stage,
            shards=shards if stage in ("ingest", "embed") else 0,
            disk_gb=round(disk[stage] / GB, 4),
            memory_gb=round(stage_memory(stage, documents, dim) / GB, 2),
            minutes=round(_minutes(stage, documents, length, processors), 3),
        )
        for stage in CPU_SECONDS
    ]
    notes = [
        f"On {processors} processors. Rates were measured on another machine: read the times as orders of magnitude."
    ]
    notes += check.notes
    try:
        check_resources(documents, dim, Store(config.out) if not protocol_of(config.out) else None, sum(disk.values()))
    except ResourceError as error:
        notes.append(f"This machine cannot do it: {error.message}")
    return JobPlan(
        documents=documents,
        basis=basis,
        files=len(inputs),
        input_gb=round(size / GB, 4),
        stages=stages,
        notes=notes,
    )


def stage_memory(stage: str, documents: int, dim: int) -> float:
    """Bytes of memory that a stage needs at its peak."""
    if stage not in GLOBAL_STAGES:
        return PROCESS_BYTES
    return PROCESS_BYTES + documents * (MEMORY[stage] + dim * 4)


def check_resources(documents: int, dim: int, store: Store | None, disk_bytes: float) -> None:
    """Refuse a set that this machine cannot hold.

    Parameters
    ----------
    store : Store or None
        The workspace, if it is on a local disk.
    disk_bytes : float
        What will be written.

    Raises
    ------
    ResourceError
        With what is there, what is needed and what would fit.
    """
    needed = max(stage_memory(stage, documents, dim) for stage in GLOBAL_STAGES)
    available = available_memory()
    if needed > available:
        fits = int((available - PROCESS_BYTES) / (max(MEMORY.values()) + dim * 4))
        raise ResourceError(
            f"{documents:,} documents of {dim} dimensions need about {needed / GB:.1f} GB of memory, "
            f"{available / GB:.1f} GB are free",
            hint=f"Take fewer (--sample {max(fits, 1) / documents:.2g}), or a machine with more memory.",
        )
    if store is not None and store.is_local:
        free = _free_disk(store.local_root)
        if disk_bytes > free:
            raise ResourceError(
                f"the workspace will take about {disk_bytes / GB:.2g} GB, {free / GB:.2g} GB are free on its disk",
                where=store.url,
                hint="Free some space, or choose another disk with --out.",
            )


def _free_disk(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return psutil.disk_usage(str(folder)).free


def _minutes(stage: str, documents: int, length: float, processors: int) -> float:
    seconds = CPU_SECONDS[stage] * documents * (length if stage in ("ingest", "embed", "label") else 1)
    return seconds / (processors if stage in PARALLEL else 1) / 60


def _dimensions(config: JobConfig) -> int:
    if config.embed.model == "column":
        return 768
    return opened_embedder(config.embed.model, config.embed.max_tokens).dim


def _text_bytes(inputs: InputTable) -> float:
    factors = np.array([EXPANSION[compression] for compression in COMPRESSIONS])
    return float((inputs.sizes * factors[inputs.compressions]).sum())


def _estimate_rows(inputs: InputTable, config: JobConfig) -> int:
    """Count records in the beginning of some files, and scale up."""
    if inputs[0].format == "files":
        return len(inputs)
    read = lines = 0
    step = max(1, len(inputs) // SAMPLE_FILES)
    for file in inputs[::step][:SAMPLE_FILES]:
        with open_input(file, config.corpus.storage) as raw:
            data = Decompressed(file, raw).read(SAMPLE_BYTES)
        read += len(data)
        lines += max(_records(file, data, config), 1)
    return max(1, round(_text_bytes(inputs) * lines / max(read, 1)))


def _records(file: InputFile, data: bytes, config: JobConfig) -> int:
    if file.format not in ("csv", "tsv"):
        return data.count(b"\n")
    # A quoted field may hold line breaks.
    text = data.decode(config.corpus.encoding, errors="replace")
    delimiter = config.corpus.delimiter or ("\t" if file.format == "tsv" else ",")
    return sum(1 for _ in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
