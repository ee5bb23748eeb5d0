"""The preview page of an unfinished map: its settings, and its final state when the run ends."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from latentscale.errors import LatentScaleError
from latentscale.pipeline.context import RunContext
from latentscale.stages.previewed import wants_preview
from latentscale.stages.publish.preview import Preview, address_of, end_preview
from latentscale.stages.stage import MapJob


def preview_of(context: RunContext, job: MapJob, *, publishes: bool) -> Preview | None:
    """The preview of the job's map; None if the settings disable it.

    Parameters
    ----------
    publishes : bool
        Whether the run publishes the map; if not, a preview is made only on request.
    """
    config = job.config
    if not wants_preview(config, job.snapshot.documents, publishes=publishes):
        return None
    context.shows_preview = True
    return Preview(
        job.store,
        snapshot=job.snapshot.id,
        title=config.publish.title or job.workspace.name,
        columns=config.publish.columns,
        text=config.publish.text,
        text_column=job.workspace.text_column,
        vectors=job.vectors_column,
        dimensions=config.project.map_dimensions,
    )


@contextmanager
def ended_preview(context: RunContext) -> Generator[None]:
    """At the end of the run, mark the preview page as finished or failed, with a link to the map if there is one.

    The stale preview of a killed run is finished by the next run that publishes a map.
    """
    try:
        yield
    except BaseException:
        if context.shows_preview:
            _end(context, published=False, failed=True)
        raise
    record = context.outcome.map
    published = context.outcome.published and record is not None and bool(record.counts.get("page"))
    if context.shows_preview or published:
        _end(context, published=published, failed=False)


def _end(context: RunContext, *, published: bool, failed: bool) -> None:
    # A failure here must not hide how the run ended.
    try:
        end_preview(context.store, published=published, failed=failed)
    except LatentScaleError as error:
        context.observer.note(f"{address_of(context.store)} still shows an unfinished map: {error}")
