"""Resources of the workers of each stage: the settings, with defaults of the embedder, labeler and backends."""

from __future__ import annotations

from latentscale.config import JobConfig, StageResources
from latentscale.embedders import EmbedderSpec
from latentscale.labelers import labeler_class
from latentscale.labelers.model import runs_in_the_job
from latentscale.registry import BACKENDS, stages


def with_default_resources(config: JobConfig, spec: EmbedderSpec) -> JobConfig:
    """Fill unset ``engine.resources`` with the defaults of the embedder, the labeler and backends chosen by name.

    Parameters
    ----------
    config : JobConfig
    spec : EmbedderSpec
        The embedder of the job; its ``resources()`` are the defaults of stage embed.
    """
    defaults: dict[str, StageResources] = {"embed": spec.resources()}
    for entry in stages():
        asked = getattr(getattr(config, entry.name, None), "backend", None)
        if asked in BACKENDS and entry.resources is None:
            defaults[entry.name] = StageResources(gpus=BACKENDS.load(str(asked)).gpus)
    labeler = labeler_class(config.label.method)
    if runs_in_the_job(labeler):
        defaults["label"] = labeler.resources()
    given = config.engine.resources
    filled: dict[str, StageResources] = {}
    for name, resources in defaults.items():
        asked = given.of(name)
        left_open = {
            field: getattr(resources, field)
            for field, described in StageResources.model_fields.items()
            if getattr(asked, field) == described.default != getattr(resources, field)
        }
        # The three worker fields form one setting: if one is set, none is filled.
        if asked.workers or asked.min_workers or asked.max_workers:
            left_open = {field: value for field, value in left_open.items() if not field.endswith("workers")}
        if left_open:
            filled[name] = asked.model_copy(update=left_open)
    if not filled:
        return config
    engine = config.engine.model_copy(update={"resources": given.model_copy(update=filled)})
    return config.model_copy(update={"engine": engine})
