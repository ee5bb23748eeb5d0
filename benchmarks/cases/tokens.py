"""Tokenising for an encoder: each distinct word once, compared with the tokenizer on whole texts."""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import Context
from benchmarks.processes import fresh, own_cpu_seconds
from benchmarks.report import Result, Target

REPEATS = 3
# Maximum number of texts that a worker tokenises ahead of its device.
PORTION = 4_096


def run(context: Context) -> Result:
    """Alternate the variants; use medians of the repeats."""
    corpus = corpora.full_corpus(context)
    variants = {"by words, nothing known at first": words, "tokenizers.Tokenizer.encode_batch_fast": whole_texts}
    runs_by_name: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for _ in range(1 if context.quick else REPEATS):
        for name, function in variants.items():
            usage, facts = fresh(function, path=corpus.path, text=corpus.text)
            runs_by_name[name].append(facts | {"peak_mb": usage.peak_mb})
    assert len({run["tokens"] for runs in runs_by_name.values() for run in runs}) == 1, "both give the same tokens"
    rows = [
        {"what": name} | {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for name, runs in runs_by_name.items()
    ]
    by_words, by_texts = rows
    return Result(
        title="Tokens of a tokenizer of BERT's kind, by words and by whole texts.",
        parameters=corpus.facts() | {"portion": PORTION, "repeats": len(runs_by_name[by_words["what"]])},
        rows=rows,
        targets=[
            Target(
                what="tokens per CPU-second, of the tokenizer on whole texts",
                value=by_texts["cpu_s"] / by_words["cpu_s"],
                limit=3.0,
                at_least=True,
            )
        ],
        notes=["The tokenizer has as many threads as there are processors; words are separated in one."],
    )


# ------------------------------------------------------------------------------------------------ in fresh processes


def words(path: str, text: str) -> dict[str, Any]:
    """Tokenise by distinct words, as embedding workers do."""
    from latentscale.embedders.wordpieces import WordPieces

    pieces = WordPieces(_tokenizer())
    return _timed(path, text, lambda texts: len(pieces.encode(texts)[0]))


def whole_texts(path: str, text: str) -> dict[str, Any]:
    """Tokenise whole texts with the library; the ids of each text are read, as any use of them does."""
    tokenizer = _tokenizer()

    def count(texts: list[str]) -> int:
        return sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False))

    return _timed(path, text, count)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    from latentscale.models import static_model_path

    tokenizer = Tokenizer.from_file(str(static_model_path() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _timed(path: str, text: str, count: Any) -> dict[str, Any]:
    import pyarrow.parquet as pq

    texts = [value for value in pq.read_table(path, columns=[text])[text].to_pylist() if value]
    cpu, wall = own_cpu_seconds(), time.perf_counter()
    tokens = sum(count(texts[start : start + PORTION]) for start in range(0, len(texts), PORTION))
    cpu_s, wall_s = own_cpu_seconds() - cpu, time.perf_counter() - wall
    return {"tokens": tokens, "cpu_s": cpu_s, "wall_s": wall_s, "tokens_per_cpu_s": tokens / cpu_s}
