"""The preview of a run's map: what it shows, and that none is left which says that a run goes on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from latentscale.errors import LatentScaleError
from latentscale.pipeline.context import RunContext
from latentscale.stages.previewed import wants_preview
from latentscale.stages.publish.preview import Preview, address_of, end_preview
from latentscale.stages.stage import MapJob


def preview_of(context: RunContext, job: MapJob, *, publishes: bool) -> Preview | None:
    """The preview of the job's map; None where none is wanted.

    Parameters
    ----------
    publishes : bool
        Whether the run is to publish the map: otherwise nobody waits for its page, and a preview must be asked for.
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
    """Let the page of the preview say, when the run ends, how that was, and lead to the map if it made one.

    A preview that a killed run left is ended by the next that publishes a map.
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
    # How the run ended matters more.
    try:
        end_preview(context.store, published=published, failed=failed)
    except LatentScaleError as error:
        context.observer.note(f"{address_of(context.store)} still shows the map on its way: {error}")
