"""The sections of every generation; a new one is added here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from latentscale.viewer.data import ViewerData
from latentscale.viewer.section import Put, Section


def write_quality(data: ViewerData, put: Put) -> Mapping[str, Any] | None:
    """The map's quality figures, as ``Quality`` in ``web/src/engine/format.ts``."""
    return None if data.quality is None else asdict(data.quality)


SECTIONS: tuple[Section, ...] = (Section(name="quality", version=1, write=write_quality),)
