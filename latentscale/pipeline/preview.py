"""The preview of a run's map: what it shows, and that none is left which says that a run goes on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress

from latentscale.errors import LatentScaleError
from latentscale.pipeline.context import RunContext
from latentscale.stages.publish.preview import Preview, end_preview
from latentscale.stages.stage import MapJob


def preview_of(job: MapJob) -> Preview | None:
    """The preview of the job's map; None where none is asked for."""
    config = job.config
    if not config.project.preview:
        return None
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
    store, asked = context.store, context.config.project.preview
    try:
        yield
    except BaseException:
        if asked:
            # Why the run failed matters more.
            with suppress(LatentScaleError):
                end_preview(store, published=False, failed=True)
        raise
    published = context.outcome.published and context.outcome.map is not None
    if asked or published:
        end_preview(store, published=published, failed=False)
