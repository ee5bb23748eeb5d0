"""Sections: files and entries of features in each generation, such as the map's quality."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from latentscale.errors import ShapeError
from latentscale.viewer import SECTIONS, MapQuality, Section, ViewerData, write_tiles
from latentscale.viewer.section import Put
from tests.conftest import load

ROOT = Path(__file__).parents[2]


def index_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "index.json").read_bytes())


def write(synthetic: ModuleType, data: ViewerData, folder: Path, *sections: Section) -> dict[str, Any]:
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    write_tiles(data, synthetic.Disk(folder / "g"), scratch=scratch, sections=(*SECTIONS, *sections))
    return index_of(folder / "g")


def test_a_section_has_an_entry_and_files_of_its_own(synthetic: ModuleType, tmp_path: Path) -> None:
    def write_first(data: ViewerData, put: Put) -> Mapping[str, Any]:
        put("0.bin", b"first")
        return {"rows": [len(data.row_ids)]}

    ours = Section(name="first-words", version=3, write=write_first)
    none = Section(name="none", version=1, write=lambda _data, _put: None)
    index = write(synthetic, synthetic.make_data(100), tmp_path, ours, none)
    assert index["sections"].keys() == {"quality", "first-words", "search"}
    assert index["sections"]["first-words"] == {"version": 3, "rows": [100]}
    assert (tmp_path / "g/sections/first-words/0.bin").read_bytes() == b"first"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"version": 2}, "has the key 'version'"),
        ({"share": float("nan")}, "not JSON"),
        ({"when": object()}, "not JSON"),
        ({"long": "x" * 16_000}, "16,0.. bytes of index.json"),
    ],
)
def test_an_invalid_section_entry_is_refused(
    synthetic: ModuleType, tmp_path: Path, entry: dict[str, Any], says: str
) -> None:
    ours = Section(name="ours", version=1, write=lambda _data, _put: entry)
    with pytest.raises(ShapeError, match=says):
        write(synthetic, synthetic.make_data(100), tmp_path, ours)


@pytest.mark.parametrize(("name", "version"), [("Ours", 1), ("a b", 1), ("", 1), ("../up", 1), ("ours", 0)])
def test_a_section_needs_a_valid_name_and_version(name: str, version: int) -> None:
    with pytest.raises(ShapeError, match="section"):
        Section(name=name, version=version, write=lambda _data, _put: None)


def test_sections_with_the_same_name_are_refused(synthetic: ModuleType, tmp_path: Path) -> None:
    again = Section(name="quality", version=1, write=lambda _data, _put: None)
    with pytest.raises(ShapeError, match="two sections have the name 'quality'"):
        write(synthetic, synthetic.make_data(100), tmp_path, again)


def test_each_generation_keeps_its_own_sections(synthetic: ModuleType, tmp_path: Path) -> None:
    synthetic.write_grown(tmp_path, base=1_000, sizes=(300, 300))
    found = [index_of(tmp_path / f"maps/map-0000000{g}/viewer")["sections"]["quality"] for g in range(3)]
    assert [entry["map"] for entry in found] == ["map-00000000", "map-00000001", "map-00000002"]
    assert [entry["growth"] and entry["growth"]["added"] for entry in found] == [None, 260, 520]


def test_the_quality_entry_has_all_fields_of_its_type(synthetic: ModuleType, tmp_path: Path) -> None:
    data = synthetic.make_data(100)
    entry = write(synthetic, data, tmp_path)["sections"]["quality"]
    assert entry == {"version": 1, **json.loads(json.dumps(dataclasses.asdict(data.quality)))}


def test_a_map_without_figures_has_no_quality_section(synthetic: ModuleType, tmp_path: Path) -> None:
    data = dataclasses.replace(synthetic.make_data(100), quality=None)
    assert write(synthetic, data, tmp_path)["sections"].keys() == {"search"}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("trustworthiness", 1.2, "trustworthiness is 1.2, but must be from 0 to 1"),
        ("noise_share", None, "noise_share is None"),
        ("recall", float("nan"), "recall is nan"),
        ("stability", -1.5, "from -1 to 1"),
        ("components", -1, "components is -1, but must be a count"),
        ("documents", 7.5, "documents is 7.5, but must be a count"),
        ("against", {"column": "kind", "nmi": 0.5, "ari": 2.0, "purity": 0.5}, "ari is 2.0"),
    ],
)
def test_a_figure_out_of_its_range_is_refused(synthetic: ModuleType, name: str, value: Any, says: str) -> None:
    facts = synthetic.make_quality(100, clusters=4) | {name: value}
    with pytest.raises(ShapeError, match=re.escape(says)):
        MapQuality.parse(facts, map="map-00000001")


@pytest.mark.parametrize("name", ["trustworthiness", "preservation", "recall", "stability"])
def test_a_figure_that_was_not_measured_is_none(synthetic: ModuleType, name: str) -> None:
    facts = synthetic.make_quality(100, clusters=4) | {name: None}
    assert getattr(MapQuality.parse(facts, map="map-00000001"), name) is None


def test_a_missing_figure_is_named(synthetic: ModuleType) -> None:
    facts = synthetic.make_quality(100, clusters=4)
    del facts["duplicates"]
    with pytest.raises(ShapeError, match="lacks 'duplicates'"):
        MapQuality.parse(facts, map="map-00000001")


def test_the_documented_section_writes_the_documented_files(synthetic: ModuleType, tmp_path: Path) -> None:
    docs = ROOT / "docs/extend.md"
    code = re.search(r"```python\n# latentscale/viewer/lengths\.py\n(.*?)```", docs.read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "lengths.py").write_text(code[1])
    try:
        lengths = load("lengths_of_the_docs", tmp_path / "lengths.py")
    finally:
        sys.modules.pop("lengths_of_the_docs", None)
    entry = write(synthetic, synthetic.make_data(100), tmp_path, lengths.LENGTHS)["sections"]["lengths"]
    assert entry == {
        "version": 1,
        "documents": 100,
        "characters": sum(len(synthetic.text_of(row)) for row in range(100)),
    }
