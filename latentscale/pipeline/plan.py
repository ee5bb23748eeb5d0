"""Cost estimate of a job: shards, gigabytes and minutes for each stage, and whether this machine suffices."""

from __future__ import annotations

from dataclasses import dataclass, field

from latentscale import machine
from latentscale.config import JobConfig, protocol_of
from latentscale.embedders import embedder_spec
from latentscale.embedders.catalog import recommended_models
from latentscale.errors import ConfigError, ResourceError
from latentscale.machine import available_processors
from latentscale.models.hub_fetch import NotFetchedError, no_downloads
from latentscale.pipeline.calibrate import core_speed
from latentscale.pipeline.estimate import estimate_size
from latentscale.pipeline.label_quote import LabelQuote, quote_labels
from latentscale.pipeline.preflight import (
    COMMON_WIDTH,
    GB,
    PROCESS_BYTES,
    check_disk,
    check_place,
    here_within,
    stage_costs,
)
from latentscale.readers.check import check_corpus
from latentscale.readers.inputs import list_inputs
from latentscale.registry import stage_entry
from latentscale.services.terms import ServiceTerms
from latentscale.stages.ingest import plan_ingest
from latentscale.stages.previewed import preview_cost
from latentscale.stages.publish.preview import NAME as PREVIEW
from latentscale.stages.stage import USUAL_BYTES, Cost, JobSize
from latentscale.storage.objects import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """Estimated cost of one stage.

    Attributes
    ----------
    shards : int
        Number of shards; 0 for a stage that processes the whole data set at once.
    disk_gb, memory_gb, minutes : float
        Output size, peak memory and wall time; gigabytes are 1e9 bytes.
    cpu_seconds : float
        Total over all cores.
    """

    stage: str
    shards: int
    disk_gb: float
    memory_gb: float
    minutes: float
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """Estimated cost of a job.

    Attributes
    ----------
    documents : int
    basis : str
        Where the number of documents comes from.
    files, input_gb
        Number of files of the corpus, and their size in gigabytes (1e9 bytes).
    stages : list of StagePlan
    notes : list of str
    labels : LabelQuote or None
        Estimated charges for labels, if a service computes them.
    cpu_seconds, memory_gb : float
        Of the whole job: the total CPU time of all stages, and the highest peak memory of a stage.
    possible : bool
        Whether the memory and disk of this machine suffice, by the estimate; if not, `run` refuses the job.
    """

    documents: int
    basis: str
    files: int
    input_gb: float
    stages: list[StagePlan]
    notes: list[str] = field(default_factory=list[str])
    labels: LabelQuote | None = None
    cpu_seconds: float = 0.0
    memory_gb: float = 0.0
    possible: bool = True


def _service_note(terms: ServiceTerms, size: JobSize, limit: int) -> str:
    """Upper bound of the charges of an embedding service: all columns count as text, at four bytes per token."""
    tokens = int(min(size.text_bytes / 4, float(size.documents * limit)))
    price = terms.price_per_million_tokens
    cost = "" if price is None else f", {tokens * price / 1e6:.2g} at {price:g} a million"
    return f"The embedding service will bill about {tokens:,} tokens at most{cost}."


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelFacts:
    """The properties of the embedder that are known without a download."""

    kind: str
    dimensions: int
    token_limit: int
    terms: ServiceTerms | None
    notes: tuple[str, ...] = ()


def _model_of(config: JobConfig) -> _ModelFacts:
    try:
        with no_downloads():
            spec = embedder_spec(config.embed, vectors_column=config.corpus.vectors_column())
            return _ModelFacts(
                kind=spec.kind,
                dimensions=spec.dimensions or COMMON_WIDTH,
                token_limit=spec.token_limit or 0,
                terms=spec.terms,
            )
    except NotFetchedError:
        name = config.embed.model
        known = next((one for one in recommended_models() if one.name == name), None)
        dimensions = (known and known.dimensions) or COMMON_WIDTH
        kind = config.embed.kind if config.embed.kind != "auto" else (known.kind if known else "transformers")
        note = (
            f"{name} is not on this machine, and a plan fetches nothing: it is taken for a model of {dimensions} "
            f"dimensions. `latentscale models pull {name}` brings it; so does the run."
        )
        return _ModelFacts(
            kind=kind, dimensions=dimensions, token_limit=config.embed.max_tokens, terms=None, notes=(note,)
        )


def plan_job(
    config: JobConfig, *, documents: int | None = None, characters: int | None = None, gpus: int | None = None
) -> JobPlan:
    """Estimate the cost of each stage for the corpus, or a hypothetical one. Nothing is written or downloaded.

    A benchmark of about a second measures the speed of this machine's cores.

    Parameters
    ----------
    documents : int, optional
        Number of documents to assume; the corpus is not read then.
    characters : int, optional
        Mean text length, with ``documents``.
    gpus : int, optional
        Number of GPUs to assume; by default those of this machine.

    Raises
    ------
    LatentScaleError
        If the corpus or the settings are invalid, with the same message as a run.
    """
    listed: list[str] = []
    files = input_bytes = units = 0
    if characters is not None and documents is None:
        raise ConfigError("characters go with a number of documents", hint="Add --documents, or leave them out.")
    if documents is not None:
        length = USUAL_BYTES if characters is None else characters
        if documents < 1 or length < 1:
            raise ConfigError(
                f"a plan for {documents:,} documents of {length:,} characters", hint="One or more of each."
            )
        basis, corpus_bytes = f"assumed, of {length:,} characters each", float(documents) * length
    else:
        inputs = list_inputs(config.corpus, listed)
        check = check_corpus(inputs, config.corpus, config.ingest)
        listed += check.notes
        # Only the number of units is needed, so that file contents need not be read for fingerprints.
        units = len(plan_ingest(inputs, config.corpus, config.ingest.model_copy(update={"fingerprint": "stat"})))
        estimated = estimate_size(inputs, config, check)
        documents, basis, corpus_bytes = estimated.documents, estimated.basis, estimated.bytes
        files, input_bytes = len(inputs), int(inputs.sizes.sum())
    model = _model_of(config)
    asked = config.engine.resources.of("embed").gpus
    found = 0 if asked == 0 else len(machine.gpus()) if gpus is None else gpus
    size = JobSize(documents=documents, dim=model.dimensions, text_bytes=corpus_bytes, embedder=model.kind, gpus=found)
    shards = max(units, -(-documents // config.ingest.shard_rows))
    processors = config.engine.threads or available_processors()
    speed = core_speed()
    costs = stage_costs(config, size)
    planned = [
        StagePlan(
            stage=name,
            shards=shards if stage_entry(name).unit == "shard" else 0,
            disk_gb=round(cost.disk_bytes / GB, 4),
            memory_gb=round((PROCESS_BYTES + cost.memory_bytes) / GB, 2),
            minutes=round(_minutes(cost, name, processors, found, speed), 3),
            cpu_seconds=round(cost.cpu_seconds / speed, 1),
        )
        for name, cost in costs.items()
    ]
    gpu_words = f" and {found} GPU{'' if found == 1 else 's'}" if found else ""
    notes = [
        f"On {processors} processors{gpu_words}; a core of this machine is {speed:.2g} times as fast as the one on "
        "which the rates were measured. Take times of other machines as orders of magnitude."
    ]
    notes += [*listed, *model.notes]
    shown = preview_cost(size, config)
    if shown is not None:
        memory, file = (f"{one / 1e6:,.0f} MB" for one in (shown.memory_bytes, shown.file_bytes))
        notes.append(
            f"Stage project has the preview of the map in it ({PREVIEW}): about {shown.cpu_seconds / speed:,.1f} "
            f"CPU-s, {memory} of memory while a page is written, and {file} on disk until the map is done. "
            "project.preview=false leaves it out."
        )
    if model.terms is not None:
        notes.append(_service_note(model.terms, size, model.token_limit))
    store = Store(config.out) if not protocol_of(config.out) else None
    quoted = quote_labels(config, documents, store)
    if quoted is not None:
        notes.append(quoted[1])
    possible = True
    try:
        check_disk(store, sum(c.disk_bytes for c in costs.values()))
        for name, cost in costs.items():
            check_place(name, cost, here_within(config.engine), size)
    except ResourceError as error:
        possible = False
        notes.append(f"This machine cannot do it: {error.message}")
    return JobPlan(
        documents=documents,
        basis=basis,
        files=files,
        input_gb=round(input_bytes / GB, 4),
        stages=planned,
        notes=notes,
        labels=None if quoted is None else quoted[0],
        cpu_seconds=round(sum(one.cpu_seconds for one in planned), 1),
        memory_gb=max(one.memory_gb for one in planned),
        possible=possible,
    )


def _minutes(cost: Cost, stage: str, processors: int, found: int, speed: float) -> float:
    """Wall time: CPU and GPU work overlap; a stage over the whole data set uses one GPU."""
    shared = processors if cost.parallel else 1
    workers = found if stage_entry(stage).unit == "shard" else 1
    return max(cost.cpu_seconds / speed / shared, cost.gpu_seconds / max(workers, 1)) / 60
