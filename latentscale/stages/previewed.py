"""Of which maps a preview is shown on their way, and what it costs beside their layout."""

from __future__ import annotations

from dataclasses import dataclass

from latentscale.backends.shown import COOLING, is_shown
from latentscale.config import JobConfig
from latentscale.stages.earlier import asked_epochs
from latentscale.stages.rates import default_epochs, layout_seconds
from latentscale.stages.stage import USUAL_BYTES, JobSize
from latentscale.viewer.page import SINGLE_PAGE_DOCUMENTS

# From here on the map's layout takes half a minute of a processor and more, of which a preview costs about a tenth
# (docs/decisions/0019-preview.md); before, there is nothing to wait for.
DOCUMENTS = 200_000
# Of a text on the page: the card of a document shows less, and the file of a corpus of books would be one of books.
CHARACTERS = 1_000
# The script and the style of the page, and the fixed part of what writing it takes.
_PAGE_BYTES, _WRITER_BYTES = 0.85e6, 40e6


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewCost:
    """What a preview costs.

    Attributes
    ----------
    cpu_seconds : float
        Of a core of the machine on which the rates were measured.
    memory_bytes : float
        While a page is written, the layout's own left out.
    file_bytes : float
        Of `preview.html`.
    """

    cpu_seconds: float
    memory_bytes: float
    file_bytes: float


def wants_preview(config: JobConfig, documents: int, *, publishes: bool) -> bool:
    """Whether a map of so many documents is shown while it is laid out.

    Parameters
    ----------
    publishes : bool
        Whether the run is to publish the map: otherwise nobody waits for its page, and a preview must be asked for.
    """
    asked = config.project.preview
    return publishes and config.publish.viewer and documents >= DOCUMENTS if asked is None else asked


def preview_cost(size: JobSize, config: JobConfig) -> PreviewCost | None:
    """Estimate the preview of a run that publishes its map; None where none is wanted."""
    if not wants_preview(config, size.documents, publishes=True):
        return None
    shown = min(size.documents, SINGLE_PAGE_DOCUMENTS)
    text = min(size.length * USUAL_BYTES, CHARACTERS)
    # All documents are read for the sample, once.
    seconds = 2.5e-6 * size.documents * size.length
    axes = config.project.map_dimensions
    for dimensions in range(2, axes + 1):
        total = asked_epochs(config) or default_epochs(size.documents, dimensions)
        looks = sum(is_shown(done, total) for done in range(1, total))
        seconds += layout_seconds(size.documents, epochs=COOLING * looks, dimensions=dimensions)
        seconds += 5e-6 * shown * (looks + 1)
    return PreviewCost(
        cpu_seconds=seconds,
        # Row ids and a copy of the coordinates of all, and the page with its tables some times over.
        memory_bytes=_WRITER_BYTES + size.documents * (8.0 + 4.0 * axes) + shown * (1_450.0 + 5.0 * text),
        file_bytes=_PAGE_BYTES + shown * (70.0 + 0.5 * text),
    )
