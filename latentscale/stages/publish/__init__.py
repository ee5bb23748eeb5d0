"""Publish: a layout, clusters and labels become points, tables, quality figures and a page."""

from latentscale.stages.publish.columns import (
    Published,
    check_columns,
    layer_number,
    published_columns,
    published_documents,
    resolve_columns,
)
from latentscale.stages.publish.map import MapRequest, publish_settings
from latentscale.stages.publish.page import PAGE_FOLDER, page_objects, page_title, write_public_page, write_viewer
from latentscale.stages.publish.points import write_points

__all__ = [
    "PAGE_FOLDER",
    "MapRequest",
    "Published",
    "check_columns",
    "layer_number",
    "page_objects",
    "page_title",
    "publish_settings",
    "published_columns",
    "published_documents",
    "resolve_columns",
    "write_points",
    "write_public_page",
    "write_viewer",
]
