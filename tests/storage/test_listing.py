"""Listings and inputs as columns: they behave as the mapping and the sequence that they replace."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from latentscale.readers.input_table import InputFile, InputTable
from latentscale.stages.ingest.units import KeyIndex
from latentscale.storage.listing import Listing
from latentscale.storage.objects import Store
from latentscale.storage.remote.protocol import ObjectInfo


def some_objects(count: int) -> list[ObjectInfo]:
    return [
        ObjectInfo(name=f"a{i % 7}/é-{i:05d}", size=i, version=f"v{i}", modified=None if i % 3 else i / 8)
        for i in range(count)
    ]


def test_a_listing_is_a_mapping_by_name():
    objects = some_objects(500)
    random.Random(3).shuffle(objects)
    listing = Listing(objects)
    plain = {info.name: info for info in sorted(objects, key=lambda info: info.name)}
    assert listing == plain
    assert list(listing) == list(plain)
    assert list(listing.items()) == list(plain.items())
    assert list(listing.values()) == list(plain.values())
    assert all(listing[name] == info and name in listing for name, info in plain.items())
    assert "a0/é-00001" not in listing
    assert "" not in listing
    assert "z" not in listing
    with pytest.raises(KeyError):
        listing["z"]
    assert not Listing()


def test_a_brief_listing_keeps_names_and_sizes():
    listing = Listing(some_objects(20), brief=True)
    assert {(info.name, info.size) for info in listing.values()} == {(i.name, i.size) for i in some_objects(20)}
    assert {(info.version, info.modified) for info in listing.values()} == {("", None)}


def test_a_disk_is_listed_in_the_order_of_full_names(tmp_path):
    store = Store(str(tmp_path))
    names = ["a/b", "a-b", "a.b/c", "a/b-c/d", "a/b.d", "b", "a/é", "a/z"]
    for name in names:
        store.put_bytes(name, b"x")
    assert list(store.list()) == sorted(names)
    assert list(store.list("a", "b-none", "a.b")) == sorted(n for n in names if n.startswith(("a/", "a.b/")))


def an_input(path: str, root: str = "s3://bucket/corpus/", **other: object) -> InputFile:
    values = {"size": len(path), "version": f"v-{path}", "format": "csv", "compression": "gzip"} | other
    return InputFile(url=root + path, path=path, **values)  # type: ignore[arg-type]


def test_an_input_table_is_a_sequence_of_files():
    files = [
        an_input("b/one.csv.gz"),
        an_input("a.parquet", format="parquet", compression="none"),
        InputFile(url="https://host/x.csv?key=1", path="x.csv", size=3, version="v", format="csv", compression="none"),
    ]
    table = InputTable(files)
    assert list(table) == files
    assert [table[place] for place in (0, 1, 2, -1)] == [*files, files[2]]
    assert list(table[1:]) == files[1:]
    assert list(table.take(np.array([2, 0]))) == [files[2], files[0]]
    assert [file.path for file in table.by_path()] == sorted(file.path for file in files)
    renamed = table.with_paths(["1", "2", "3"])
    assert [(file.url, file.path) for file in renamed] == [
        (file.url, str(number)) for number, file in enumerate(files, start=1)
    ]
    both = InputTable.concat([table[:1], InputTable([an_input("c.csv.gz", root="/disk/")])])
    assert [file.url for file in both] == ["s3://bucket/corpus/b/one.csv.gz", "/disk/c.csv.gz"]
    with pytest.raises(IndexError):
        table[3]


def test_keys_are_found_and_others_are_not():
    keys = [random.Random(i).randbytes(16).hex() for i in range(300)]
    # Half of its bits are those of a planned key.
    near = keys[5][:16] + "0" * 16
    index = KeyIndex(pa.array(keys, pa.large_string()))
    asked = pa.array([near, *reversed(keys), "f" * 32], pa.large_string())
    assert index.places(asked).tolist() == [-1, *reversed(range(300)), -1]
    assert KeyIndex(pa.array([], pa.large_string())).places(asked).tolist() == [-1] * 302
    # A piece of a longer array is read where it begins.
    assert index.places(asked.slice(1, 2)).tolist() == [299, 298]


def test_listing_a_disk_stops_at_the_first_match(tmp_path):
    store = Store(str(tmp_path))
    for name in ("a/1", "b/2", "c/3"):
        store.put_bytes(name, b"x")
    seen: list[str] = []
    assert store.find_first(lambda name: seen.append(name) or name > "a") == "a/1"
    assert seen == ["a/1"]
    assert store.find_first(lambda name: name.startswith("c")) == "c/3"
    assert store.find_first(lambda name: False) is None
