"""When a preview of the layout is shown, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from latentscale.backends.shown import COOLING, is_shown
from latentscale.config import JobConfig
from latentscale.stages.earlier import configured_epochs
from latentscale.stages.rates import default_epochs, layout_seconds
from latentscale.stages.stage import USUAL_BYTES, JobSize
from latentscale.viewer.page import SINGLE_PAGE_DOCUMENTS

# From here on the layout takes half a minute of a core or more, of which a preview costs about a tenth
# (docs/decisions/0019-preview.md); smaller maps are done soon.
DOCUMENTS = 200_000
# Texts are truncated for the page: the card of a document shows less, and long texts would make a large file.
CHARACTERS = 1_000
# Size of the page's script and style, and the fixed cost of writing it.
_PAGE_BYTES, _WRITER_BYTES = 0.85e6, 40e6


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewCost:
    """Cost of a preview.

    Attributes
    ----------
    cpu_seconds : float
        Seconds of a reference core.
    memory_bytes : float
        Additional memory while a page is written.
    file_bytes : float
        Size of ``preview.html``.
    """

    cpu_seconds: float
    memory_bytes: float
    file_bytes: float


def wants_preview(config: JobConfig, documents: int, *, publishes: bool) -> bool:
    """Whether the layout of a map of ``documents`` is previewed.

    Parameters
    ----------
    publishes : bool
        Whether the run publishes the map; otherwise a preview must be requested explicitly.
    """
    asked = config.project.preview
    return publishes and config.publish.viewer and documents >= DOCUMENTS if asked is None else asked


def preview_cost(size: JobSize, config: JobConfig) -> PreviewCost | None:
    """Estimate the preview of a run that publishes its map; None where there is none."""
    if not wants_preview(config, size.documents, publishes=True):
        return None
    shown = min(size.documents, SINGLE_PAGE_DOCUMENTS)
    text = min(size.length * USUAL_BYTES, CHARACTERS)
    # All documents are read for the sample, once.
    seconds = 2.5e-6 * size.documents * size.length
    axes = config.project.map_dimensions
    for dimensions in range(2, axes + 1):
        total = configured_epochs(config) or default_epochs(size.documents, dimensions)
        looks = sum(is_shown(done, total) for done in range(1, total))
        seconds += layout_seconds(size.documents, epochs=COOLING * looks, dimensions=dimensions)
        seconds += 5e-6 * shown * (looks + 1)
    return PreviewCost(
        cpu_seconds=seconds,
        # Row ids, a copy of all coordinates, and several copies of the page and its tables.
        memory_bytes=_WRITER_BYTES + size.documents * (8.0 + 4.0 * axes) + shown * (1_450.0 + 5.0 * text),
        file_bytes=_PAGE_BYTES + shown * (70.0 + 0.5 * text),
    )
