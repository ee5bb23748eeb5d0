"""Listing the files of a corpus."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError, StorageError
from latentscale.readers.input_table import InputFile, InputTable
from latentscale.readers.inputs import list_inputs
from latentscale.readers.opening import HASHED_BYTES, HASHED_FILES, fingerprint_rule, identities, open_input
from latentscale.stages.ingest import settled_fingerprint


def listed(*sources: str | Path, **settings: object) -> InputTable:
    return list_inputs(CorpusConfig(sources=tuple(map(str, sources)), **settings))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "news"
    for name in ("b.csv", "a.jsonl.gz", "2024/c.parquet", "2024/notes.docx", ".hidden.csv", "_SUCCESS", "_x/d.csv"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def test_a_directory_gives_its_readable_files_by_path(folder: Path):
    files = listed(folder)
    assert [(f.path, f.format, f.compression) for f in files] == [
        ("2024/c.parquet", "parquet", "none"),
        ("a.jsonl.gz", "jsonl", "gzip"),
        ("b.csv", "csv", "none"),
    ]
    assert all(f.size == 1 for f in files)


def test_text_files_next_to_tables_are_read_only_if_a_pattern_matches_them(folder: Path):
    (folder / "README.md").write_text("about")
    assert "README.md" not in [f.path for f in listed(folder)]
    assert [f.path for f in listed(folder / "*.md")] == ["README.md"]
    assert [f.path for f in listed(folder, format="files")] == ["2024/notes.docx", "README.md"]


def test_a_glob_with_two_stars_reaches_below(folder: Path):
    assert [f.path for f in listed(folder / "**" / "*.parquet")] == ["2024/c.parquet"]
    assert [f.path for f in listed(f"{folder}/*.csv")] == ["b.csv"]


def test_a_file_given_twice_counts_once(folder: Path):
    assert [f.path for f in listed(folder / "b.csv", folder, folder / "*.csv")] == [
        "b.csv",
        "2024/c.parquet",
        "a.jsonl.gz",
    ]


def test_two_files_of_one_relative_path_get_different_ones(tmp_path: Path):
    for name in ("one/a.csv", "two/a.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("text\nhello\n")
    paths = [f.path for f in listed(tmp_path / "one", tmp_path / "two")]
    assert paths == ["a.csv", "two/a.csv"]


def test_duplicate_and_cyclic_links_add_nothing(folder: Path):
    (folder / "linked.csv").symlink_to(folder / "b.csv")
    (folder / "loop").symlink_to(folder)
    assert [f.path for f in listed(folder)] == ["2024/c.parquet", "a.jsonl.gz", "b.csv"]
    assert [f.path for f in listed(folder, follow_links=True)] == ["2024/c.parquet", "a.jsonl.gz", "b.csv"]
    assert [f.path for f in listed(folder / "linked.csv")] == ["linked.csv"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path):
    (tmp_path / "a[1].csv").write_text("text\nx\n")
    assert [f.path for f in listed(tmp_path / "a[1].csv")] == ["a[1].csv"]


def test_a_missing_file_is_named_with_its_near_ones(folder: Path):
    with pytest.raises(CorpusError, match="there is no") as error:
        listed(folder / "bb.csv")
    assert "b.csv" in str(error.value)
    assert len(str(error.value).splitlines()) <= 6


def test_a_directory_without_a_readable_file_lists_its_content(tmp_path: Path):
    (tmp_path / "report.docx").write_bytes(b"x")
    with pytest.raises(CorpusError) as error:
        listed(tmp_path)
    assert "1 .docx" in str(error.value)
    assert ".parquet" in str(error.value)


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path):
    with pytest.raises(CorpusError, match="matches no readable file"):
        listed(tmp_path / "*.csv")


def test_a_file_of_unknown_format_is_an_error_unless_the_format_is_given(tmp_path: Path):
    path = tmp_path / "dump.data"
    path.write_text('{"text": "x"}\n')
    with pytest.raises(CorpusError, match="no format that its name tells"):
        listed(path)
    assert listed(path, format="jsonl")[0].format == "jsonl"


def test_a_url_of_another_file_system_is_listed_and_read():
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/corpus/x/a.csv", b"text\nhello\n")
    files = listed("memory://corpus")
    assert [(f.path, f.size) for f in files] == [("x/a.csv", 11)]
    with open_input(files[0], None) as stream:
        assert stream.read() == b"text\nhello\n"


def test_the_fingerprint_follows_the_file_or_its_bytes(folder: Path):
    path = folder / "b.csv"
    before = listed(path)
    os.utime(path, ns=(1, 1))
    after = listed(path)
    assert list(identities(before, "stat", None)) != list(identities(after, "stat", None))
    content = list(identities(before, "content", None))
    assert list(identities(after, "content", None)) == content
    path.write_bytes(b"y")
    assert list(identities(before, "content", None)) != content


def file_of(url: str, size: int) -> InputFile:
    return InputFile(url=url, path=url.rsplit("/", 1)[-1], size=size, version="1", format="csv", compression="none")


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ([file_of("/data/a.csv", HASHED_BYTES)], "content"),
        ([file_of("/data/a.csv", HASHED_BYTES), file_of("/data/b.csv", 1)], "stat"),
        ([file_of(f"/data/{number}.csv", 1) for number in range(HASHED_FILES)], "content"),
        ([file_of(f"/data/{number}.csv", 1) for number in range(HASHED_FILES + 1)], "stat"),
        ([file_of("s3://bucket/a.csv", 1)], "stat"),
        ([file_of("/data/a.csv", 1), file_of("s3://bucket/a.csv", 1)], "stat"),
    ],
)
def test_a_small_local_corpus_is_recognised_by_its_bytes(files: list[InputFile], rule: str):
    inputs = InputTable(files)
    assert fingerprint_rule(inputs) == rule
    settled = settled_fingerprint(IngestConfig(), inputs)
    assert settled.fingerprint == rule
    # A workspace keeps what it began with, and what is set is set.
    assert settled_fingerprint(IngestConfig(), inputs, "stat").fingerprint == "stat"
    assert settled_fingerprint(IngestConfig(fingerprint="content"), inputs, "stat").fingerprint == "content"


def test_bytes_are_read_again_where_the_modification_time_may_not_tell(folder: Path):
    path = folder / "b.csv"
    before = listed(path)
    seen = list(identities(before, "content", None))
    status = path.stat()
    # Another content of the same length, within one tick of the clock.
    path.write_bytes(b"y")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert list(identities(listed(path), "content", None)) != seen


def test_a_file_that_was_written_again_since_the_listing_is_refused(folder: Path):
    file = listed(folder / "b.csv")[0]
    (folder / "b.csv").write_bytes(b"longer than before")
    with pytest.raises(StorageError, match="overwritten since") as error:
        open_input(file, None)
    assert error.value.exit_code == 4


def test_an_unreadable_file_is_an_error_with_its_name(folder: Path):
    file = listed(folder / "b.csv")[0]
    (folder / "b.csv").unlink()
    with pytest.raises(CorpusError, match=r"b\.csv does not exist any more"):
        open_input(file, None)


def test_a_table_of_lancedb_without_a_version_or_in_a_store_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "docs.lance").mkdir()
    with pytest.raises(CorpusError, match="no version of a table of LanceDB"):
        list_inputs(CorpusConfig(sources=(str(tmp_path / "docs.lance"),)))
    with pytest.raises(CorpusError, match="read from a disk only") as raised:
        list_inputs(CorpusConfig(sources=("s3://bucket/docs.lance",)))
    assert "pq.write_table" in str(raised.value.hint)
