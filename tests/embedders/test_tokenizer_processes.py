"""Processes that tokenise: the same batches to the bit, no row lost when one dies, and none left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from latentscale.embedders.encoder.feed import Batch, Feed, Tally, portions
from latentscale.embedders.encoder.tokenizer_processes import TokenizerProcesses, processes_for, processes_for_tokenizer
from latentscale.embedders.tokens import TextTokenizer
from latentscale.errors import ConfigError, ResourceError
from tests.embedders.encoder_files import WORDS, word_pieces

PATIENCE = 60
MODULE = "latentscale.embedders.encoder.tokenizer_processes"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}._LEAST_BYTES", 1)
    monkeypatch.setattr("latentscale.embedders.encoder.feed._LEAST_CHARACTERS", 500)


@pytest.fixture
def started() -> Iterator[Callable[..., TokenizerProcesses]]:
    """Makes processes that end with the test."""
    made: list[TokenizerProcesses] = []

    def start(count: int = 1, *, limit: int = 32, tokenizer: Tokenizer | None = None) -> TokenizerProcesses:
        made.append(
            TokenizerProcesses({"tokenizer": (tokenizer or word_pieces()).to_str(), "limit": limit}, processes=count)
        )
        return made[-1]

    yield start
    for one in made:
        one.close()


def some_texts(count: int, seed: int = 3) -> list[str]:
    generator = random.Random(seed)
    texts = [" ".join(generator.choices(WORDS, k=generator.randint(0, 60))) for _ in range(count)]
    return [*texts, "", "  ", "zz zz", "naïve — 字 \x00 \u202e red", "red " * 300]


def own_processes() -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for one in psutil.Process().children():
        # One may end meanwhile.
        with contextlib.suppress(psutil.Error):
            if "tokenizer_process" in " ".join(one.cmdline()):
                found.append(one)
    return found


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=PATIENCE)[1]


def made(feed: Feed, texts: list[str]) -> tuple[list[Batch], Tally]:
    tally = Tally(len(texts))
    return list(feed.batches(texts, tally, budget=lambda: 300)), tally


def assert_same(found: tuple[list[Batch], Tally], expected: tuple[list[Batch], Tally]) -> None:
    assert len(found[0]) == len(expected[0]) > 5
    for one, other in zip(found[0], expected[0], strict=True):
        for name in ("text", "weight", "tokens", "lengths"):
            assert getattr(one, name).dtype == getattr(other, name).dtype
            assert np.array_equal(getattr(one, name), getattr(other, name))
    for name in ("empty", "truncated"):
        assert np.array_equal(getattr(found[1], name), getattr(expected[1], name))
    for name in ("read", "unknown", "padded"):
        assert getattr(found[1], name) == getattr(expected[1], name) > 0


def whole_texts() -> Tokenizer:
    """A tokenizer of another kind than BERT's, which reads whole texts."""
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(["<s>", "</s>", "<unk>", *WORDS])}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (word_pieces, {"limit": 32}),
        (word_pieces, {"limit": 24, "prompt": "query: ", "long": "chunk", "overlap": 3}),
        (whole_texts, {"limit": 32, "prompt": "the "}),
    ],
)
def test_batches_are_the_same_to_the_bit(make: Any, options: dict[str, Any]) -> None:
    texts = some_texts(400)
    tokenizer = TextTokenizer(make(), **options)
    expected = made(Feed(tokenizer, limit=32), texts)
    processes = processes_for_tokenizer(make(), options, 2)
    assert processes is not None
    feed = Feed(tokenizer, limit=32, processes=processes)
    assert not own_processes()
    assert_same(made(feed, texts), expected)
    started = own_processes()
    assert len(started) == 2
    # Several calls at once, as of shards that are read ahead, and one that nobody wants any more.
    others = [some_texts(300, seed) for seed in (4, 5, 6)]
    next(feed.batches(others[0], Tally(len(others[0])), budget=lambda: 300))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda some: made(feed, some), others))
    for one, some in zip(found, others, strict=True):
        assert_same(one, made(Feed(tokenizer, limit=32), some))
    # They are those that were started for the first call.
    assert {one.pid for one in own_processes()} == {one.pid for one in started}
    processes.close()
    assert gone(started)


def test_few_texts_and_lone_surrogates_are_tokenised_here(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = started()
    texts = ["red \ud800 card", *some_texts(50)]
    tokenizer = TextTokenizer(word_pieces(), limit=32)
    assert processes.column(texts) is None
    assert [one.tolist() for one in portions(processes.column(texts[1:]))] == [
        one.tolist() for one in portions(texts[1:])
    ]
    assert_same(made(Feed(tokenizer, limit=32, processes=processes), texts), made(Feed(tokenizer, limit=32), texts))
    monkeypatch.setattr(f"{MODULE}._LEAST_BYTES", 10_000)
    assert processes.column(["red"] * 10) is None
    assert not own_processes()


def test_a_process_that_is_killed_loses_no_text(started: Any) -> None:
    texts = some_texts(400)
    tokenizer = TextTokenizer(word_pieces(), limit=32)
    processes = started(2)
    feed = Feed(tokenizer, limit=32, processes=processes)
    expected = made(Feed(tokenizer, limit=32), texts)
    tally, batches = Tally(len(texts)), []
    killed: list[psutil.Process] = []
    for batch in feed.batches(texts, tally, budget=lambda: 300):
        batches.append(batch)
        if len(batches) == 1:
            killed = own_processes()
            assert killed
            for one in killed:
                one.kill()
    assert gone(killed)
    assert_same((batches, tally), expected)
    # And where they have nothing to do.
    killed = own_processes()
    for one in killed:
        one.kill()
    assert_same(made(feed, texts), expected)
    assert gone(killed)
    assert own_processes()


def test_texts_with_which_a_process_dies_each_time_are_named(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # It kills itself when it has read a request.
    monkeypatch.setattr(
        f"{MODULE}._COMMAND",
        "import os, sys; sys.stdin.buffer.readline(); os.write(1, b'{}\\n'); sys.stdin.buffer.readline(); "
        "os.kill(os.getpid(), 9)",
    )
    processes = started()
    texts = some_texts(20)
    with pytest.raises(ResourceError, match=r"died with the same .* texts each time: killed by signal 9") as caught:
        made(Feed(TextTokenizer(word_pieces(), limit=32), limit=32, processes=processes), texts)
    assert "red red red" in str(caught.value.where)
    assert "embed.options.tokenizer_processes" in str(caught.value.hint)
    processes.close()
    assert not own_processes()


def test_errors_keep_their_kind_and_words(started: Any) -> None:
    texts = some_texts(30)
    tokenizer = TextTokenizer(word_pieces(), limit=32)
    with pytest.raises(ConfigError, match="2 tokens leave no room for a text") as caught:
        made(Feed(tokenizer, limit=32, processes=started(limit=2)), texts)
    assert caught.value.where == "embed.max_tokens"


def test_a_process_continues_after_texts_for_which_its_tokenizer_failed(started: Any) -> None:
    # One without a token for what it does not know.
    stubborn = Tokenizer(models.WordLevel({"red": 0, "a": 1, "b": 2}))
    stubborn.pre_tokenizer = pre_tokenizers.Whitespace()
    feed = Feed(TextTokenizer(word_pieces(), limit=32), limit=32, processes=started(tokenizer=stubborn))
    with pytest.raises(ConfigError, match=r"Missing \[UNK\]"):
        made(feed, some_texts(30))
    before = own_processes()
    assert len(made(feed, ["red a b"] * 400)[0]) > 5
    assert own_processes() == before


def test_processes_end_with_the_last_one_who_uses_them() -> None:
    processes = TokenizerProcesses({"tokenizer": word_pieces().to_str(), "limit": 32}, processes=2)
    feed = Feed(TextTokenizer(word_pieces(), limit=32), limit=32, processes=processes)
    made(feed, some_texts(100))
    started = own_processes()
    assert len(started) == 2
    del processes, feed
    gc.collect()
    assert gone(started)


# Without a main guard, as from a notebook: a process of multiprocessing would run it again.
SCRIPT = """
import os, sys, time, psutil
from latentscale.embedders.encoder import tokenizer_processes
from latentscale.embedders.encoder.feed import Feed, Tally
from latentscale.embedders.tokens import TextTokenizer
from tests.embedders.encoder_files import word_pieces
tokenizer_processes._LEAST_BYTES = 1
described = {"tokenizer": word_pieces().to_str(), "limit": 32}
processes = tokenizer_processes.TokenizerProcesses(described, processes=2)
feed = Feed(TextTokenizer(word_pieces(), limit=32), limit=32, processes=processes)
texts = ["red card of the library"] * 20_000
assert len(list(feed.batches(texts, Tally(len(texts)), budget=lambda: 300))) > 5
print(*[one.pid for one in psutil.Process().children()], flush=True)
# A child that has inherited the pipes keeps them open, as one of a user's own may.
if sys.argv[1] == "fork" and os.fork() == 0:
    time.sleep(60)
if sys.argv[1] != "end":
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="processes are killed as POSIX systems kill them")
@pytest.mark.parametrize("how", ["kill", "fork", "interrupt", "end"])
def test_none_outlives_the_process_that_started_them(how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    ) as script:
        assert script.stdout is not None
        lines = script.stdout.readline().split()
        started = [psutil.Process(int(pid)) for pid in lines if psutil.pid_exists(int(pid))]
        assert len(lines) == 2
        forked: list[psutil.Process] = []
        if how == "fork":
            deadline = time.monotonic() + PATIENCE
            while not forked and time.monotonic() < deadline:
                forked = [one for one in psutil.Process(script.pid).children() if one.pid not in map(int, lines)]
        if how in ("kill", "fork"):
            script.kill()
        elif how == "interrupt":
            os.killpg(script.pid, signal.SIGINT)
        assert gone(started)
        for one in forked:
            one.kill()
        # Its output was that one line: nothing ran twice.
        assert script.stdout.read() == ""


def test_a_gpu_gets_three_where_there_are_processors_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((16, 3), (3, 2), (2, 1), (1, 0)):
        monkeypatch.setattr(f"{MODULE}.available_processors", lambda available=available: available)
        assert processes_for("cuda:0", None) == expected
        assert processes_for("cpu", None) == processes_for("mps", None) == 0
    assert processes_for("cuda:0", 0) == 0
    assert processes_for("cpu", 3) == 3


def test_a_tokenizer_with_parts_in_python_stays_here() -> None:
    class Splitting:
        def pre_tokenize(self, text: Any) -> None:
            text.split(lambda _, part: [part])

    tokenizer = word_pieces()
    tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Splitting())
    assert processes_for_tokenizer(tokenizer, {"limit": 32}, 2) is None
    assert processes_for_tokenizer(word_pieces(), {"limit": 32}, 0) is None


@pytest.mark.slow
def test_an_encoder_gives_the_same_vectors(tmp_path: Path) -> None:
    for package in ("torch", "transformers", "sentence_transformers"):
        pytest.importorskip(package, reason=f"the model is made with {package}")
    from tests.embedders.test_transformers import opened
    from tests.embedders.tiny_models import sentence_encoder

    folder = sentence_encoder(tmp_path / "tiny")
    texts = some_texts(200)
    expected = opened(folder, batch_tokens=300).embed(texts)
    assert not own_processes()
    embedder = opened(folder, batch_tokens=300, tokenizer_processes=1)
    found = embedder.embed(texts)
    assert len(own_processes()) == 1
    assert np.array_equal(found.vectors, expected.vectors)
    assert np.array_equal(found.embeddable, expected.embeddable)
    assert (found.tokens, found.unknown, found.truncated) == (expected.tokens, expected.unknown, expected.truncated)
    # Queries have a tokenizer of their own, here.
    assert np.array_equal(embedder.embed_queries(texts).vectors, expected.vectors)
