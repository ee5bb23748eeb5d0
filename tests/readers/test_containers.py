"""Files within files: compression, members of archives, and decompression bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from corpora import listed, listed_and_left
from hypothesis import given, settings
from hypothesis import strategies as st

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError, StorageError
from latentscale.readers import archives, read_input, streams
from latentscale.readers.inputs import open_input
from latentscale.readers.streams import Decompressed, open_content

TEXTS = [f"a text with the number {i * 7919 % 100_003}" for i in range(20_000)]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
PACK: dict[str, Callable[[bytes], bytes]] = {"bz2": bz2.compress, "xz": lzma.compress, "gz": gzip.compress}


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(CorpusError) as error:
        action()
    assert len(str(error.value).splitlines()) <= 6
    return str(error.value)


@pytest.mark.parametrize("kind", ["bz2", "xz"])
def test_compressed_files_may_have_several_streams(tmp_path: Path, ingested: Callable[..., Any], kind: str):
    half = LINES.index(b"\n", len(LINES) // 2) + 1
    (tmp_path / f"a.jsonl.{kind}").write_bytes(PACK[kind](LINES))
    (tmp_path / f"b.jsonl.{kind}").write_bytes(PACK[kind](LINES[:half]) + PACK[kind](LINES[half:]))
    (tmp_path / f"c.jsonl.{kind}").write_bytes(b"")
    made = ingested(tmp_path)
    assert made.texts == TEXTS * 2
    assert made.sources == [f"a.jsonl.{kind}", f"b.jsonl.{kind}"]


def test_zeros_between_the_streams_of_an_xz_file_fill_blocks(tmp_path: Path, ingested: Callable[..., Any]):
    (tmp_path / "a.txt.xz").write_bytes(lzma.compress(b"one\n") + b"\0" * 1024 + lzma.compress(b"two\n") + b"\0" * 4)
    assert ingested(tmp_path / "a.txt.xz").texts == ["one", "two"]


@pytest.mark.parametrize("kind", ["bz2", "xz"])
@settings(max_examples=12)
@given(cut=st.floats(0.01, 0.99))
def test_a_compressed_file_that_is_cut_short_is_refused_wherever_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, kind: str, cut: float
):
    path = tmp_path_factory.mktemp("cut") / f"a.txt.{kind}"
    whole = PACK[kind](b"one\ntwo\nthree\n")
    path.write_bytes(whole[: max(1, int(cut * len(whole)))])
    file = listed(path)[0]
    corpus = CorpusConfig(sources=(str(path),))
    assert "damaged or cut short" in refusal(lambda: list(read_input(file, corpus, IngestConfig())))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (bz2.compress(b"text\nx\n"), "bzip2"),
        (lzma.compress(b"text\nx\n"), "xz"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"ARROW1\0\0rest", "arrow"),
    ],
)
def test_content_of_another_kind_is_named(tmp_path: Path, ingested: Callable[..., Any], data: bytes, kind: str):
    (tmp_path / "a.csv").write_bytes(data)
    assert f"what it holds is {kind}" in refusal(lambda: ingested(tmp_path / "a.csv"))


def test_parquet_is_read_from_every_container(tmp_path: Path, ingested: Callable[..., Any]):
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS[:100], "n": range(100)}), sink)
    for kind, pack in PACK.items():
        (tmp_path / f"a.parquet.{kind}").write_bytes(pack(sink.getvalue()))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.parquet", sink.getvalue())
    made = ingested(*sorted(tmp_path.iterdir()))
    assert made.texts == TEXTS[:100] * 4
    assert made.sources[-1] == "b.zip/x.parquet"


# ------------------------------------------------------------------------------------------------------------- archives


def archive_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


MEMBERS = {
    "b/two.csv": b"text,n\ntwo,2\n,3\n",
    "one.csv": b"text,n\none,1\n",
    "three.jsonl.gz": gzip.compress(b'{"text": "three", "n": 4}\n'),
    "lang=de/four.csv": "text,n\nvier é,5\n".encode(),
    "README.md": b"about",
    "inner.zip": b"PK",
    "__MACOSX/._one.csv": b"\0",
    ".hidden.csv": b"text\nx\n",
}


def test_members_of_an_archive_are_files_with_their_own_names(tmp_path: Path, ingested: Callable[..., Any]):
    path = archive_of(tmp_path / "a.zip", MEMBERS)
    made = ingested(path)
    assert made.sources == ["a.zip/b/two.csv", "a.zip/lang=de/four.csv", "a.zip/one.csv", "a.zip/three.jsonl.gz"]
    assert [(row["text"], row["lang"], row["n"]) for row in made.rows] == [
        ("two", None, 2),
        ("vier é", "de", 5),
        ("one", None, 1),
        ("three", None, 4),
    ]
    assert made.rejects == [(1, 3, "blank_text")]
    left = listed_and_left(path)[1]
    assert left.kinds == {".zip": 1, ".md beside other files": 1}
    assert [file.path for file in listed(tmp_path)] == [file.path for file in listed(tmp_path / "*.zip")]
    assert [file.path for file in listed(path, format="files")] == ["a.zip/README.md"]


def test_an_archive_in_a_store_is_read(tmp_path: Path, ingested: Callable[..., Any]):
    path = archive_of(tmp_path / "a.zip", {"b.csv": b"text\ntwo\n", "a.jsonl": b'{"text": "one"}\n'})
    fsspec.filesystem("memory").pipe_file("/archives/a.zip", path.read_bytes())
    for source in ("memory://archives", "memory://archives/a.zip", "memory://archives/*.zip"):
        made = ingested(source)
        assert (made.texts, made.sources) == (["one", "two"], ["a.zip/a.jsonl", "a.zip/b.csv"])


def test_a_member_of_an_archive_is_identified_by_its_content(tmp_path: Path):
    path = archive_of(tmp_path / "a.zip", {"one.csv": b"text\none\n", "two.csv": b"text\ntwo\n"})
    before = {file.path: file.version for file in listed(path)}
    archive_of(path, {"one.csv": b"text\none\n", "two.csv": b"text\nzwo\n", "x.csv": b"text\nx\n"})
    after = {file.path: file.version for file in listed(path)}
    assert after["a.zip/one.csv"] == before["a.zip/one.csv"]
    assert after["a.zip/two.csv"] != before["a.zip/two.csv"]


def test_an_archive_that_changes_after_it_was_listed_is_noticed(tmp_path: Path):
    path = archive_of(tmp_path / "a.zip", {"one.csv": b"text\none\n"})
    file = listed(path)[0]
    archive_of(path, {"one.csv": b"text\nanother\n"})
    with pytest.raises(StorageError, match="overwritten since"):
        open_input(file, None)


def test_an_archive_with_many_members_is_read_once(tmp_path: Path, ingested: Callable[..., Any]):
    path = archive_of(tmp_path / "a.zip", {f"{i:04}.md": f"document {i}".encode() for i in range(400)})
    assert ingested(path).texts == [f"document {i}" for i in range(400)]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, "content"])
def test_a_damaged_archive_is_refused(tmp_path: Path, ingested: Callable[..., Any], place: float | str):
    path = archive_of(tmp_path / "a.zip", {"one.jsonl": LINES})
    data = bytearray(path.read_bytes())
    if place == "content":
        data[len(data) // 2] ^= 0x55
    else:
        del data[int(float(place) * len(data)) :]
    path.write_bytes(data)
    assert "damaged or cut short" in refusal(lambda: ingested(path))


def test_an_encrypted_archive_says_so(tmp_path: Path):
    path = archive_of(tmp_path / "a.zip", {"one.csv": b"text\none\n"})
    data = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + offset] |= 1
    path.write_bytes(data)
    assert "is encrypted" in refusal(lambda: listed(path))


def test_an_archive_without_a_readable_member_lists_its_content(tmp_path: Path):
    assert "1 .docx" in refusal(lambda: listed(archive_of(tmp_path / "a.zip", {"x.docx": b"x"})))


# --------------------------------------------------------------------------------------------------------------- bounds


def bomb(path: Path, suffix: str) -> Path:
    """Many megabytes of line ends in some kilobytes."""
    block = b"\n" * (1 << 20)
    if suffix == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.txt", "w") as member:
            for _ in range(100):
                member.write(block)
        return path
    packers: dict[str, Callable[[], Any]] = {
        "zst": lambda: zstandard.ZstdCompressor().compressobj(),
        "bz2": lambda: bz2.BZ2Compressor(1),
        "xz": lambda: lzma.LZMACompressor(preset=0),
        "gz": lambda: zlib.compressobj(wbits=31),
    }
    packer = packers[suffix]()
    with path.open("wb") as file:
        for _ in range(100):
            file.write(packer.compress(block))
        file.write(packer.flush())
    return path


@pytest.mark.parametrize("suffix", ["zst", "zip", "gz", "bz2", "xz"])
def test_a_decompression_bomb_is_refused(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "LARGE", 16 << 20)
    monkeypatch.setattr(archives, "LARGE", 16 << 20)
    path = bomb(tmp_path / (f"a.txt.{suffix}" if suffix != "zip" else "a.zip"), suffix)

    def read(**limits: Any) -> int:
        corpus = CorpusConfig(sources=(str(path),), **limits)
        with open_content(listed(path, **limits)[0], corpus) as content:
            return sum(iter(lambda: len(content.read(1 << 24)), 0))

    assert "corpus.max_expansion=" in refusal(read)
    assert read(max_expansion=1_000_000) == 100 << 20


def test_a_zstd_window_that_takes_much_memory_is_refused_with_the_setting(tmp_path: Path):
    # The header of a frame alone: a window of 2 GB, and an empty last block.
    path = tmp_path / "a.txt.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes([0, 21 << 3]) + b"\x01\0\0")
    file = listed(path)[0]

    def read(**limits: Any) -> bytes:
        with open_input(file, None) as raw:
            return Decompressed(file, raw, CorpusConfig(sources=(str(path),), **limits)).read(10)

    message = refusal(read)
    assert "window of more than 128 MB" in message
    assert "corpus.max_zstd_window=2147483648" in message
    assert read(max_zstd_window=1 << 31) == b""
