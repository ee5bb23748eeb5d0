"""Overview page of several maps: thumbnails, names, dates, figures, and links to copies of their pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from latentscale.errors import RequestError
from latentscale.explore.export import copy_object
from latentscale.explore.tables import map_row
from latentscale.explore.targets import check_new_page, new_folder
from latentscale.stages.publish import page_objects, page_title, write_public_page
from latentscale.stages.publish.about import about_map
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.viewer.gallery import Card, gallery_files

# File names of the gallery itself; the folders of maps with such names must be called otherwise.
_TAKEN = ("maps", "pictures", "index.html", "gallery.css")
# Facts that differ for every map, and so are no difference worth showing.
_OWN = ("Map", "Made", "Fitted")


def write_gallery(
    store: Store, records: Sequence[Record], to: Path, *, current: str | None, names: Mapping[str, Sequence[str]]
) -> list[str]:
    """Write an overview page of maps to a new folder, with a copy of each map's page; shared files are copied once.

    Parameters
    ----------
    records : sequence of Record
        The maps in display order; those without a page are left out.
    current : str or None
        Id of the workspace's current map.
    names : mapping of str to sequence of str
        Names of maps, by id.

    Returns
    -------
    list of str
        Ids of the maps shown.

    Raises
    ------
    RequestError
        If there is no map, or none has a page.
    WorkspaceError
        If the folder is not empty.
    """
    check_new_page(store, to)
    if not records:
        raise RequestError(
            f"{store.url} has no map yet", hint="latentscale run CORPUS --text COLUMN --out WORKSPACE makes one."
        )
    shown = [record for record in records if page_objects(store, record)]
    if not shown:
        raise RequestError(
            f"none of the {len(records)} maps has a page", hint="Publish one with --set publish.viewer=true."
        )
    with new_folder(to) as made:
        target = Store(str(made))
        cards: list[Card] = []
        differing = list(_differences(store, shown))
        for record, about in zip(shown, differing, strict=True):
            own = names.get(record.id, [])
            folder = next((name for name in own if name not in _TAKEN), record.id)
            for name in page_objects(store, record):
                if not target.exists(name):
                    copy_object(store, target, name)
            write_public_page(target, record, folder=folder)
            picture = f"{record.folder}/thumbnail.png"
            if store.exists(picture):
                target.put_bytes(f"pictures/{record.id}.png", store.read_bytes(picture))
            row = map_row(record, current=record.id == current, names=own)
            cards.append(
                Card(
                    id=record.id,
                    name=row["name"] or record.id,
                    href=f"./{folder}/index.html",
                    picture=f"./pictures/{record.id}.png" if store.exists(picture) else None,
                    current=row["current"],
                    created=str(row["created"]),
                    documents=int(row["documents"]),
                    clusters=int(row["clusters"]),
                    noise_share=row["noise_share"],
                    trustworthiness=json.loads(store.read_bytes(f"{record.folder}/quality.json")).get(
                        "trustworthiness"
                    ),
                    about=about,
                )
            )
        for name, content in gallery_files(page_title(shown[0]), cards):
            target.put_bytes(name, content)
    return [record.id for record in shown]


def _differences(store: Store, records: Sequence[Record]) -> Iterator[list[tuple[str, str]]]:
    """For each map, the facts about its settings that are not the same for all maps."""
    facts: list[dict[str, Any]] = [dict(about_map(store, record)) for record in records]
    for own in facts:
        yield [
            (name, value)
            for name, value in own.items()
            if name not in _OWN and any(other.get(name) != value for other in facts)
        ]
