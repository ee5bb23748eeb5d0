"""Write the static site for exploring a map: tiles, row packs, labels and the page itself."""

from latentscale.viewer.data import ViewerData, continued
from latentscale.viewer.density import map_density
from latentscale.viewer.labels import with_hues
from latentscale.viewer.page import manifest_bytes, page_files, static_files, write_page
from latentscale.viewer.quality import MapQuality
from latentscale.viewer.removed import positions_of, removed_file, write_removed
from latentscale.viewer.section import Section
from latentscale.viewer.sections import SECTIONS
from latentscale.viewer.tiles import write_labels, write_tiles

__all__ = [
    "SECTIONS",
    "MapQuality",
    "Section",
    "ViewerData",
    "continued",
    "manifest_bytes",
    "map_density",
    "page_files",
    "positions_of",
    "removed_file",
    "static_files",
    "with_hues",
    "write_labels",
    "write_page",
    "write_removed",
    "write_tiles",
]
