"""Write the static site in which a map is explored: tiles, row packs, labels and the page itself."""

from latentscale.viewer.data import ViewerData
from latentscale.viewer.page import static_files, write_page
from latentscale.viewer.tiles import write_tiles

__all__ = ["ViewerData", "static_files", "write_page", "write_tiles"]
