"""Make the demo corpus from Debian's package index: python -m latentscale.demo.make_corpus FOLDER.

It needs a Debian machine with apt and network. The index is fetched into a temporary folder with its English
descriptions (container images switch those off), so that nothing of the machine's own apt state is used or changed.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DOCUMENTS = 8_000
# Sections are drawn in proportion to their size to this power, so that a map of them is varied: at 1, a quarter of it
# would be Python, Perl and Rust modules, and games a sixtieth.
BALANCE = 0.6
MIN_CHARACTERS = 120
_SECTIONS_LEFT_OUT = {"debug", "metapackages", "oldlibs", "tasks"}
_NAMES_LEFT_OUT = re.compile(r"-(dbg|dbgsym|common|data|doc|examples?|tests?)$")
_TEXTS_LEFT_OUT = re.compile(r"\b(transitional|dummy package|meta-?package|virtual package|empty package)\b", re.I)
_BULLET = re.compile(r"^[*+•-]\s")


def main(folder: Path) -> None:
    """Write ``debian-packages.parquet`` and ``provenance.json`` into ``folder``."""
    with tempfile.TemporaryDirectory() as lists:
        targets = _fetch_index(Path(lists))
        packages = list(_stanzas(_read_target(targets["Packages"])))
        long_texts = {
            (stanza["Package"], stanza["Description-md5"]): stanza["Description-en"]
            for stanza in _stanzas(_read_target(targets["Translations"]))
        }
        checksum = hashlib.sha256(_read_target(targets["Packages"])).hexdigest()
    candidates = [row for stanza in packages if (row := _document(stanza, long_texts)) is not None]
    rows = choose(one_per_source(candidates), DOCUMENTS)
    columns = ["package", "section", "priority", "installed_size", "maintainer", "homepage", "text"]
    types = [pa.string()] * 3 + [pa.int64()] + [pa.string()] * 3
    table = pa.table(
        {name: pa.array([row[name] for row in rows], type=kind) for name, kind in zip(columns, types, strict=True)}
    )
    pq.write_table(
        table, folder / "debian-packages.parquet", compression="zstd", compression_level=19, write_page_checksum=True
    )
    provenance = {
        "release": targets["codename"],
        "component": "main",
        "architecture": "amd64",
        "packages_sha256": checksum,
        "packages": len(packages),
        "candidates": len(candidates),
        "documents": len(rows),
    }
    (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


def one_per_source(candidates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep one package of each source package and one of each text: the others repeat most of its description."""
    by_source: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in candidates:
        by_source[row["source"]].append(row)
    texts: set[str] = set()
    kept: list[dict[str, Any]] = []
    for source in sorted(by_source):
        # The package that users install before libraries, development files and translations of it.
        rows = sorted(
            by_source[source],
            key=lambda row: (
                row["package"] != row["source"],
                row["section"] in {"libdevel", "localization"},
                row["package"],
            ),
        )
        # Two sources with one description are versions of one program (gcc-11, gcc-12).
        body = re.sub(r"\W+", " ", rows[0]["text"].partition("\n")[2].lower())[:200]
        if body not in texts:
            texts.add(body)
            kept.append(rows[0])
    return kept


def choose(candidates: list[dict[str, Any]], n_documents: int) -> list[dict[str, Any]]:
    """Draw from each section by the hash of the package's name: the next release changes little of the choice."""
    by_section: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in candidates:
        by_section[row["section"]].append(row)
    low, high = 0.0, float(n_documents)
    for _ in range(60):
        scale = (low + high) / 2
        quotas = {section: min(len(rows), round(scale * len(rows) ** BALANCE)) for section, rows in by_section.items()}
        low, high = (scale, high) if sum(quotas.values()) < n_documents else (low, scale)
    quotas = {section: min(len(rows), round(high * len(rows) ** BALANCE)) for section, rows in by_section.items()}
    chosen = [
        row
        for section, rows in by_section.items()
        for row in sorted(rows, key=lambda row: hashlib.sha256(row["package"].encode()).digest())[: quotas[section]]
    ]
    return sorted(chosen, key=lambda row: row["package"])


def clean_description(description: str) -> str:
    """Join the lines of a Debian description into paragraphs.

    In the package index a line ``.`` is an empty line, a line with two leading spaces is verbatim, and others
    are wrapped at 80 characters (Debian Policy 5.6.13). The first line is the synopsis.
    """
    synopsis, *lines = description.split("\n")
    blocks: list[list[str]] = [[synopsis.strip()], []]
    for line in lines:
        text = line[1:].rstrip() if line.startswith(" ") else line.rstrip()
        if text.strip() in {"", "."}:
            blocks.append([])
            continue
        stays = text.startswith(" ") and bool(blocks[-1]) and not _BULLET.match(blocks[-1][-1])
        if stays or not blocks[-1] or _BULLET.match(text.strip()):
            blocks[-1].append(text.strip())
        else:
            blocks[-1][-1] += " " + text.strip()
    return "\n".join("\n".join(block) for block in blocks if block)


def _document(stanza: Mapping[str, str], long_texts: Mapping[tuple[str, str], str]) -> dict[str, Any] | None:
    """Return one row of the corpus, or None for a package that is not one of its own."""
    name, section = stanza["Package"], stanza.get("Section", "").rpartition("/")[2]
    description = long_texts.get((name, stanza.get("Description-md5", "")))
    if description is None or section in _SECTIONS_LEFT_OUT or _NAMES_LEFT_OUT.search(name):
        return None
    text = clean_description(description)
    if len(text) < MIN_CHARACTERS or _TEXTS_LEFT_OUT.search(text):
        return None
    return {
        "package": name,
        "source": stanza.get("Source", name).split(" ")[0],
        "section": section,
        "priority": stanza.get("Priority", "optional"),
        "installed_size": int(stanza.get("Installed-Size", "0")),
        # The name without the mail address: nobody asked to be in a demonstration.
        "maintainer": stanza.get("Maintainer", "").partition("<")[0].strip().strip('"'),
        "homepage": stanza.get("Homepage"),
        "text": text,
    }


def _stanzas(data: bytes) -> Iterator[dict[str, str]]:
    """Parse the paragraphs of a Debian control file; continued lines keep their leading space."""
    for paragraph in data.decode("utf-8").split("\n\n"):
        fields: dict[str, str] = {}
        field = ""
        for line in paragraph.splitlines():
            if line.startswith((" ", "\t")):
                fields[field] += "\n" + line
            else:
                field, _, value = line.partition(":")
                fields[field] = value.strip()
        if fields:
            yield fields


def _fetch_index(lists: Path) -> dict[str, str]:
    """Fetch the index of the machine's release into ``lists``; return its files and its name."""
    (lists / "partial").mkdir()
    options = ["-o", f"Dir::State::lists={lists}", "-o", "Acquire::Languages=en", "-o", "APT::Sandbox::User="]
    subprocess.run(["apt-get", *options, "-qq", "update"], check=True)
    form = "$(IDENTIFIER)\t$(CODENAME)\t$(SUITE)\t$(COMPONENT)\t$(FILENAME)"
    lines = subprocess.run(
        ["apt-get", *options, "indextargets", "--format", form], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    targets: dict[str, str] = {}
    for line in lines:
        kind, codename, _, component, name = line.split("\t")
        if component == "main" and "-" not in codename:  # neither -updates nor -security
            targets[kind] = name
            targets["codename"] = codename
    return targets


def _read_target(name: str) -> bytes:
    return subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", name], check=True, capture_output=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
