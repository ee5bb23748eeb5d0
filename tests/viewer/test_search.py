"""Full-text index: tokenising, postings, and bytes read by a query."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.config import PublishConfig
from latentscale.stages.publish import publish_settings
from latentscale.viewer.search import postings
from latentscale.viewer.search.index import ID_PREFIX, K1, MAX_POSTINGS, TITLE_WEIGHT, B, SearchIndex
from latentscale.viewer.search.tokens import tokens
from latentscale.viewer.search.words import words as words_of_one

CASES = json.loads((Path(__file__).parent / "token_cases.json").read_text())


class Files(dict[str, bytes]):
    def __call__(self, name: str, content: bytes) -> None:
        self[name] = content


def build(columns: dict[str, list[str | None]], fields: dict[str, str | None], scratch: Path, *, batch: int = 100):
    table = pa.table(columns)
    n = table.num_rows
    positions = np.random.default_rng(1).permutation(n).astype(np.int64)
    index = SearchIndex(fields, positions=positions, scratch=scratch)
    for start in range(0, n, batch):
        index.add(start, table.slice(start, batch).combine_chunks().to_batches()[0])
    files = Files()
    entry = index.write(files)
    index.close()
    assert not list(scratch.iterdir())
    return entry, files, positions


def read(files: Files) -> dict[str, tuple[int, np.ndarray, np.ndarray]]:
    """Decode per word: its number of documents, the kept positions, and their weights."""
    found: dict[str, tuple[int, np.ndarray, np.ndarray]] = {}
    shard = 0
    listed = files.get("first.parquet")
    firsts = pq.read_table(pa.BufferReader(listed))["first"].to_pylist() if listed else ["!"]
    last = ""
    while f"terms/{shard}.parquet" in files:
        rows = pq.read_table(pa.BufferReader(files[f"terms/{shard}.parquet"])).to_pylist()
        assert last < firsts[shard] <= rows[0]["term"], "the list of shards leads to each"
        for row in rows:
            assert row["term"] > last
            last = row["term"]
            steps, step, shift = [], 0, 0
            for byte in row["places"]:
                step |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    steps.append(step)
                    step = shift = 0
            found[last] = row["documents"], np.cumsum(steps), np.frombuffer(row["weights"], np.uint8)
        shard += 1
    assert shard == len(firsts)
    return found


@pytest.mark.parametrize(("text", "words"), CASES)
def test_texts_are_tokenised_like_queries_on_the_page(text: str, words: list[str]) -> None:
    found = tokens(pl.Series(["before", text, None]))
    assert Counter(found.filter(pl.col("row") == 1)["term"].to_list()) == Counter(words)
    assert found.filter(pl.col("row") == 2).height == 0
    assert words_of_one(text) == words


def test_few_documents_are_indexed_like_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str | None] = [*(text for text, _ in CASES), None, "again " * 300]
    columns = {"body": texts, "name": [None, *texts[:-1]], "key": [f" Ä-{i}" for i in range(len(texts))]}
    fields = {"text": "body", "title": "name", "id": "key"}
    _, one_by_one, _ = build(columns, fields, tmp_path, batch=3)
    monkeypatch.setattr("latentscale.viewer.search.index.SMALL", 0)
    _, together, _ = build(columns, fields, tmp_path, batch=7)
    first, second = read(one_by_one), read(together)
    assert first.keys() == second.keys()
    assert "=a-3" in first
    for word, (number, places, weights) in first.items():
        assert number == second[word][0]
        assert np.array_equal(places, second[word][1])
        assert np.array_equal(weights, second[word][2])


def test_postings_list_the_documents_of_each_word_with_their_weights(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    words = [f"w{i:04d}" for i in range(3_000)]
    texts = [" ".join(random.choice(words, random.integers(1, 60))) for _ in range(2_100)]
    titles: list[str | None] = [words[i % 50] if i % 3 else None for i in range(2_100)]
    ids: list[str | None] = [f"Doc-{i}/é" for i in range(2_100)]
    fields = {"text": "body", "title": "name", "id": "key"}
    entry, files, positions = build({"body": texts, "name": titles, "key": ids}, fields, tmp_path)
    assert entry == {"documents": 2_100, "shards": entry["shards"], "most": MAX_POSTINGS, "fields": fields}
    assert entry["shards"] > 1
    found = read(files)

    counted = [Counter(text.split()) for text in texts]
    lengths = np.array([len(text.split()) + (title is not None) for text, title in zip(texts, titles, strict=True)])
    for row, title in enumerate(titles):
        if title is not None:
            counted[row][title] += TITLE_WEIGHT
    scale = K1 * (1 - B + B * lengths / lengths.mean())
    assert {word for word in found if not word.startswith(ID_PREFIX)} == {word for row in counted for word in row}
    for word in words[:200]:
        rows = np.array([row for row in range(2_100) if word in counted[row]])
        tf = np.array([counted[row][word] for row in rows])
        order = np.argsort(positions[rows])
        number, places, weights = found[word]
        assert number == len(rows)
        assert places.tolist() == positions[rows][order].tolist()
        assert np.abs(weights - 255 * (tf / (tf + scale[rows]))[order]).max() <= 0.5 + 1e-9
    for row in (0, 999):
        assert found[f"{ID_PREFIX}doc-{row}/e"][1].tolist() == [positions[row]]


@pytest.mark.parametrize("few", [0, 10])
def test_columns_of_any_type_may_be_title_or_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr("latentscale.viewer.search.index.SMALL", few)
    body = pa.array(["one word", None, "three"])
    for name, key, ids in (
        (pa.array([["a"], [], None]), pa.array([7, 8, None]), {"=7", "=8"}),
        (pa.array([{"a": 1}, None, None]), pa.array(["X", "y", "z"]).dictionary_encode(), {"=x", "=y", "=z"}),
        (pa.array([b"\xff", b"", None]), pa.array([1.5, None, None]), {"=1.5"}),
    ):
        index = SearchIndex({"text": "body", "title": "name", "id": "key"}, positions=np.arange(3), scratch=tmp_path)
        index.add(0, pa.record_batch({"body": body, "name": name, "key": key}))
        files = Files()
        entry = index.write(files)
        assert entry is not None
        assert entry["fields"] == {"text": "body", "id": "key"}
        assert set(read(files)) == {"one", "word", "three"} | ids


def test_a_frequent_word_keeps_its_postings_of_highest_weight(tmp_path: Path) -> None:
    n = MAX_POSTINGS + 500
    texts: list[str | None] = ["common " * (1 + i % 3) + f"rare{i}" for i in range(n)]
    _, files, positions = build({"body": texts}, {"text": "body"}, tmp_path, batch=1_000)
    number, places, _ = read(files)["common"]
    assert number == n
    assert len(places) == MAX_POSTINGS
    assert (np.diff(places) > 0).all()
    often = {int(positions[i]) for i in range(n) if i % 3 == 2}
    assert often <= set(places.tolist())


def test_spilling_to_disk_gives_the_same_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2)
    texts: list[str | None] = [" ".join(f"t{w}" for w in random.integers(0, 9_000, 80)) for _ in range(3_000)]
    _, once, _ = build({"body": texts}, {"text": "body"}, tmp_path, batch=250)
    monkeypatch.setattr(postings, "_RANGE_POSTINGS", 20_000)
    monkeypatch.setattr(postings, "_BUFFER_BYTES", 100_000)
    monkeypatch.setattr("latentscale.viewer.search.index._BLOCK_BYTES", 100_000)
    _, pieces, _ = build({"body": texts}, {"text": "body"}, tmp_path, batch=250)
    first, second = read(once), read(pieces)
    assert first.keys() == second.keys()
    for word, (number, places, weights) in first.items():
        assert number == second[word][0]
        assert np.array_equal(places, second[word][1])
        assert np.array_equal(weights, second[word][2])


def test_a_query_of_a_million_documents_reads_at_most_200_kilobytes(tmp_path: Path) -> None:
    """Bytes of the four largest shards and of the list of shards, estimated from an index of 20,000 documents."""
    random = np.random.default_rng(3)
    # Zipf's law, as in texts: the most frequent words are in nearly all documents.
    texts: list[str | None] = [" ".join(f"v{w}" for w in random.zipf(1.3, 50) % 200_000) for _ in range(20_000)]
    tracemalloc.start()
    _, files, _ = build({"body": texts}, {"text": "body"}, tmp_path, batch=4_096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    sizes = sorted(len(content) for name, content in files.items() if name.startswith("terms/"))
    # Shards do not grow with the corpus, their number does, and with it the list of their first words.
    assert sum(sizes[-3:]) + 50 * len(files["first.parquet"]) < 200_000
    assert peak < 200_000_000


def test_texts_that_are_not_published_are_not_indexed(synthetic: ModuleType, tmp_path: Path) -> None:
    from dataclasses import replace

    from latentscale.viewer import write_tiles

    data = synthetic.make_data(300)
    for change, words in (
        ({}, {"document", "amber"}),
        ({"text_column": None, "columns": [name for name in data.columns if name != "body"]}, set()),
        ({"search": False}, set()),
    ):
        files = Files()
        scratch = tmp_path / str(len(change))
        scratch.mkdir(exist_ok=True)
        write_tiles(replace(data, **change), files, scratch=scratch)
        names = [name.removeprefix("sections/search/") for name in files if name.startswith("sections/search/")]
        found = read(Files({name: files[f"sections/search/{name}"] for name in names})) if names else {}
        assert words <= found.keys()
        assert bool(found) == bool(words)
        assert ("search" in json.loads(files["index.json"])["sections"]) == bool(words)


def test_the_setting_does_not_change_ids_of_existing_maps() -> None:
    assert "search" not in publish_settings(PublishConfig(), title=None)
    assert publish_settings(PublishConfig(search=False), title=None)["search"] is False
