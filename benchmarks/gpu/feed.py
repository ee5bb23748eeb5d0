"""What is between a GPU and its texts: the embedder `transformers` in one call, and shard after shard, in 3 minutes.

    python -m benchmarks.gpu.pack_embed --texts CORPUS.parquet     # where there is a network
    python benchmarks/gpu/feed.py [--data .gpu] [--out $OUT] [--quick]

It needs what benchmarks/gpu/embed.py needs, and writes ``feed.json`` into ``--out`` after each part. A part that fails
is written down, and the others go on; none begins after ``--seconds``.

For MiniLM in fp16, bf16 and fp32 and an encoder of the size of BERT base in bf16:

- ``bare``: the loop of embed.py over batches that lie ready in pinned memory, with the masks of transformers, which
  asks the device in each batch; ``bare_told``: the same where it is told, as the embedder tells it;
- ``one_call``: texts to vectors on the host in one call of ``embed``: the first texts are tokenised while the device
  waits, and the last vectors come back after its work;
- ``shards``: parquet to parquet, shard after shard by the worker of the stage and its threads. ``shard_s`` is the time
  from one written shard to the next, ``device_shard_s`` that from the first batch of one to that of the next by the
  device's own clock, which also says how long it stood still between batches;
- ``feed_alone``, ``launch``: what tokenising and what giving the batches to the device take by themselves.

``variants`` comes first: MiniLM in fp16 as it is, as it was before texts were tokenised in processes of their own, and
with one thing changed at a time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SHARDS = 5
GIVEN = 4
REPEATS = 3


class FeedComparison:
    """The parts of the comparison, and what they found.

    Parameters
    ----------
    data, out : Path
        What ``pack_embed`` wrote, and where the figures go.
    quick : bool
        On the processor, with a few texts.
    seconds : float
        No part begins later.
    """

    def __init__(self, data: Path, out: Path, *, quick: bool, seconds: float) -> None:
        from benchmarks.gpu.embed import Comparison

        self.tools: Any = Comparison(data, quick=quick)
        self.torch = self.tools.torch
        self.quick = quick
        self.texts = self.tools.texts
        self.seconds = seconds
        self.out = out
        self.found: dict[str, Any] = {"rehearsal": quick}
        self._folder = tempfile.TemporaryDirectory()
        self._place = Path(self._folder.name)
        self._shards: list[Any] = []
        self._repeats = REPEATS

    def run(self) -> int:
        """Run all parts; 1 if one failed."""
        parts: list[tuple[str, Callable[[], dict[str, Any]]]] = [
            ("environment", self.tools.environment),
            ("variants", self.variants),
            ("minilm_fp16", lambda: self.measured(self.tools.model, "fp16")),
            ("base_bf16", self.base_size),
            ("minilm_bf16", lambda: self.measured(self.tools.model, "bf16")),
            ("minilm_fp32", lambda: self.measured(self.tools.model, "fp32", slow=True)),
        ]
        for name, part in parts:
            began = time.perf_counter() - self.tools.began
            if began > self.seconds:
                answer: dict[str, Any] = {"skipped": f"{began:.0f} s had passed"}
            else:
                try:
                    answer = part()
                except Exception:  # noqa: BLE001 - the other parts are worth having
                    answer = {"failed": traceback.format_exc(limit=-6)}
            answer["part_seconds"] = round(time.perf_counter() - self.tools.began - began, 2)
            self._note(name, answer)
            self.tools._free()
        return int(any("failed" in str(one) for one in self.found.values()))

    def _note(self, name: str, answer: dict[str, Any]) -> None:
        self._keep(name, answer)
        print(f"[{self.found['seconds']:5.1f}] {name}: {json.dumps(answer)}", flush=True)

    def _keep(self, name: str, answer: dict[str, Any]) -> None:
        self.found[name] = answer
        self.found["seconds"] = round(time.perf_counter() - self.tools.began, 1)
        (self.out / "feed.json").write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")

    # ------------------------------------------------------------------------------------------------------ the parts

    def measured(self, folder: Path, precision: str, *, slow: bool = False) -> dict[str, Any]:
        """All figures of one encoder; those of a slow one are not repeated."""
        self._repeats = 1 if slow else REPEATS
        embedder = self.tools._open(folder, precision=precision)
        embedder.embed(self.texts)
        batches = self.tools._ready(embedder)
        tokens = sum(int(lengths.sum()) for _, lengths in batches)
        padded = sum(one.numel() for one, _ in batches)
        bare = self._best(lambda: self.tools._bare_loop(embedder, batches))
        told, launch = self._bare_told(embedder, batches)
        waited, before = embedder.work.waiting_seconds, embedder.work.seconds
        one_call = self._best(lambda: embedder.embed(self.texts))
        share = (embedder.work.waiting_seconds - waited) / (embedder.work.seconds - before)
        shards = self.shards(embedder)
        return {
            "texts": len(self.texts),
            "tokens": tokens,
            "batches": len(batches),
            "padded_share": round(1 - tokens / padded, 4),
            "bare_s": round(bare, 4),
            "bare_told_s": round(told, 4),
            "bare_tokens_per_s": round(tokens / bare),
            "launch_s": round(launch, 4),
            "feed_alone_s": round(self._feed_alone(embedder), 4),
            "one_call_s": round(one_call, 4),
            "one_call_of_bare": round(bare / one_call, 3),
            "one_call_of_bare_told": round(told / one_call, 3),
            "one_call_waited_share": round(share, 3),
            "shards": shards,
            "shards_of_bare": round(bare / shards["shard_s"], 3),
            "shards_of_bare_told": round(told / shards["shard_s"], 3),
            "shards_tokens_per_s": round(tokens / shards["shard_s"]),
            "synchronisations": self._synchronisations(embedder),
        }

    def base_size(self) -> dict[str, Any]:
        """The same for an encoder of the size of BERT base, with random weights."""
        from benchmarks.gpu.embed import write_base

        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "base"
            write_base(self.tools.model, folder, quick=self.quick)
            return self.measured(folder, "bf16", slow=True)

    def shards(self, embedder: Any) -> dict[str, Any]:
        """Shards through the worker: the time of one where others are before and behind it, and the device's gaps."""
        from latentscale.engines import pipelined
        from latentscale.engines.pipelined import run_here

        with self._worker(embedder) as (worker, shards):
            events: list[tuple[Any, Any]] = []
            firsts: list[int] = []
            ends: list[float] = []
            began = time.perf_counter()
            write = worker.write

            def written_at(*given: Any) -> Any:
                receipt = write(*given)
                # Receipts come in the order of the shards, later than a shard was written.
                ends.append(time.perf_counter() - began)
                return receipt

            worker.write = written_at
            with self._timed(embedder, events, firsts):
                for receipt in run_here(worker, shards, in_flight=pipelined.IN_FLIGHT):
                    assert receipt.work is not None, "nothing was computed"
            self.tools._wait()
            written = sum(path.stat().st_size for path in (self._place / "embeddings").rglob("*.parquet"))
        found: dict[str, Any] = {
            "shards": len(shards),
            "ends_s": [round(one, 3) for one in ends],
            # The first one is tokenised, and the last one written, while the device has nothing to do.
            "shard_s": round((ends[-1] - ends[0]) / (len(ends) - 1), 4),
            "written_mb": round(written / 1e6, 1),
        }
        if self.quick:
            return found
        busy = [begin.elapsed_time(end) / 1e3 for begin, end in events]
        gaps = [max(0.0, a[1].elapsed_time(b[0]) / 1e3) for a, b in pairwise(events)]
        between = [gaps[first - 1] for first in firsts if first]
        inner = events[firsts[1]][0].elapsed_time(events[firsts[-1]][0]) / 1e3
        return found | {
            "device_shard_s": round(inner / (len(firsts) - 2), 4),
            "device_s": round(events[0][0].elapsed_time(events[-1][1]) / 1e3, 4),
            "in_batches_s": round(sum(busy), 4),
            "between_batches_s": round(sum(gaps), 4),
            "idle_share": round(sum(gaps) / (sum(gaps) + sum(busy)), 4),
            "between_shards_ms": [round(1e3 * one, 2) for one in between],
            "longest_gaps_ms": [round(1e3 * one, 2) for one in sorted(gaps)[:-6:-1]],
        }

    def variants(self) -> dict[str, Any]:
        """What each decision gives, in fp16: the state before, and the present one with one thing changed."""
        self._repeats = REPEATS
        kinds: dict[str, tuple[int | None, tuple[Callable[[], Any], ...]]] = {
            "as_it_is": (None, ()),
            "no_process": (0, ()),
            "one_process": (1, ()),
            "two_processes": (2, ()),
            "four_in_flight": (None, (self._four_in_flight,)),
            "store_in_memory": (None, (self._store_in_memory,)),
            "masks_of_one_row": (None, (_row_masks,)),
            "one_batch_ready": (None, (_one_ready,)),
            "masks_that_ask": (None, (_masks_that_ask,)),
        }
        embedders = {count: self._opened(count) for count in dict.fromkeys(count for count, _ in kinds.values())}
        embedder = embedders[None]
        batches = self.tools._ready(embedder)
        bare = self._best(lambda: self.tools._bare_loop(embedder, batches))
        told, launch = self._bare_told(embedder, batches)
        found: dict[str, Any] = {"bare_s": round(bare, 4), "bare_told_s": round(told, 4), "launch_s": round(launch, 4)}
        whole = embedder.embed(self.texts).vectors
        for name, (count, changes) in kinds.items():
            if time.perf_counter() - self.tools.began > self.seconds:
                found[name] = {"skipped": "no time left"}
                continue
            try:
                with ExitStack() as stack:
                    for change in changes:
                        stack.enter_context(change())
                    found[name] = self._variant(embedders[count], bare, whole)
                    if name == "masks_of_one_row":
                        found[name]["bare_told_s"] = round(self._bare_told(embedder, batches)[0], 4)
            except Exception:  # noqa: BLE001 - the other variants are worth having
                found[name] = {"failed": traceback.format_exc(limit=-4)}
            # A run that is cut off leaves what it has.
            self._keep("variants", found)
            print(f"{name}: {json.dumps(found[name])}", flush=True)
        return found

    def _opened(self, processes: int | None) -> Any:
        return self.tools._open(self.tools.model, precision="fp16", tokenizer_processes=processes)

    def _variant(self, embedder: Any, bare: float, whole: Any) -> dict[str, Any]:
        done = [embedder.embed(self.texts)]
        waited, before = embedder.work.waiting_seconds, embedder.work.seconds
        seconds = self._best(lambda: done.append(embedder.embed(self.texts)))
        share = (embedder.work.waiting_seconds - waited) / (embedder.work.seconds - before)
        shards = self.shards(embedder)
        return {
            "one_call_s": round(seconds, 4),
            "one_call_of_bare": round(bare / seconds, 3),
            "one_call_waited_share": round(share, 3),
            "feed_alone_s": round(self._feed_alone(embedder), 4),
            "shard_s": shards["shard_s"],
            "shards_of_bare": round(bare / shards["shard_s"], 3),
            "device_shard_s": shards.get("device_shard_s"),
            "idle_share": shards.get("idle_share"),
            "ends_s": shards["ends_s"],
            "largest_difference": float(abs(done[-1].vectors - whole).max()),
        }

    # ------------------------------------------------------------------------------------------------------ its tools

    def _bare_told(self, embedder: Any, batches: Any) -> tuple[float, float]:
        """Seconds of the bare loop where masks are told, and of giving its work to the device."""
        from latentscale.embedders.encoder.masks import known_padding

        encoder = embedder._model._encoder
        padded: Iterator[bool] = iter(())

        def told(**given: Any) -> Any:
            with known_padding(next(padded)):
                return encoder(**given)

        def loop(some: Any) -> None:
            nonlocal padded
            padded = iter([int(lengths.min()) < tokens.shape[1] for tokens, lengths in some])
            self.tools._bare_loop(embedder, some)

        def give() -> float:
            # The queue of a device holds some batches: with more, its own time would be measured.
            some = batches[:GIVEN]
            began = time.perf_counter()
            with mock.patch.object(self.torch.Tensor, "cpu", lambda tensor: tensor):
                loop(some)
            return (time.perf_counter() - began) / len(some) * len(batches)

        embedder._model._encoder = told
        try:
            seconds = self._best(lambda: loop(batches))
            self.tools._wait()
            return seconds, give()
        finally:
            embedder._model._encoder = encoder

    def _best(self, work: Callable[[], Any]) -> float:
        return self.tools._best(work, repeats=self._repeats)

    def _feed_alone(self, embedder: Any) -> float:
        """Seconds to tokenise and lay out all batches in pinned memory, with nothing beside it."""
        return self._best(lambda: self.tools._ready(embedder))

    def _synchronisations(self, embedder: Any) -> dict[str, int] | str:
        """Where the host waits for the device in one call of ``embed``, and how often."""
        if self.quick:
            return "no GPU"
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            self.torch.cuda.set_sync_debug_mode("warn")
            try:
                embedder.embed(self.texts)
            finally:
                self.torch.cuda.set_sync_debug_mode("default")
        places: dict[str, int] = {}
        for one in said:
            if "synchroniz" in str(one.message).lower():
                where = f"{Path(one.filename).name}:{one.lineno}"
                places[where] = places.get(where, 0) + 1
        return places

    @contextmanager
    def _timed(self, embedder: Any, events: list[tuple[Any, Any]], firsts: list[int]) -> Generator[None]:
        """Record when each batch begins and ends on the device, and which is the first of a call."""
        model, compute = embedder._model, embedder.compute
        if self.quick:
            yield
            return

        def counted(prepared: Any) -> Any:
            firsts.append(len(events))
            return compute(prepared)

        def timed(tokens: Any, lengths: Any, **options: Any) -> Any:
            begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            vectors = model(tokens, lengths, **options)
            end.record()
            events.append((begin, end))
            return vectors

        timed.device = model.device  # type: ignore[attr-defined]
        embedder._model, embedder.compute = timed, counted
        try:
            yield
        finally:
            embedder._model = model
            del embedder.compute

    @contextmanager
    def _four_in_flight(self) -> Generator[None]:
        with mock.patch("latentscale.engines.pipelined.IN_FLIGHT", 4):
            yield

    @contextmanager
    def _store_in_memory(self) -> Generator[None]:
        with (
            tempfile.TemporaryDirectory(dir="/dev/shm") as place,
            mock.patch.object(self, "_place", Path(place)),
            mock.patch.object(self, "_shards", []),
        ):
            yield

    def _written_shards(self) -> list[Any]:
        """Shards of the texts, each in another order, in a store."""
        import numpy as np
        import pyarrow as pa

        from latentscale.storage.objects import Store
        from latentscale.storage.parquet import write_parquet
        from latentscale.storage.snapshot import Shard, document_name

        store, rows = Store(str(self._place)), len(self.texts)
        shards: list[Any] = []
        for number in range(SHARDS):
            key = f"{number}" * 64
            order = np.random.default_rng(number).permutation(rows)
            texts = [self.texts[row] for row in order.tolist()]
            table = pa.table({"text": texts, "source": ["a"] * rows, "source_row": order})
            write_parquet(store, document_name(key), table, facts={})
            shards.append(Shard(key=key, name=document_name(key), rows=rows, base=number * rows, bytes=1))
        return shards

    @contextmanager
    def _worker(self, embedder: Any) -> Generator[tuple[Any, list[Any]]]:
        """The worker of the stage, and shards that have no vectors."""
        _stand_in_for("polars")
        from latentscale.config import EmbedConfig
        from latentscale.embedders.transformers import TransformersSpec
        from latentscale.stages.embed import EmbeddingRequest, EmbedWorker
        from latentscale.storage.objects import Store

        self._shards = self._shards or self._written_shards()
        shutil.rmtree(self._place / "embeddings", ignore_errors=True)
        config = EmbedConfig(model=str(self.tools.model), max_tokens=self.tools.tokens, options={"precision": "fp32"})
        spec = TransformersSpec.from_settings(config, vectors_column=None)
        if embedder.dim != spec.dimensions:
            spec = spec.model_copy(update={"cut": embedder.dim})
        request = EmbeddingRequest(model={"model": "measured"}, dtype="float16", text="text")
        with mock.patch("latentscale.stages.embed.opened_embedder", return_value=embedder):
            yield EmbedWorker(Store(str(self._place)), spec, request, on_processors=self.quick), self._shards


def _untold(padded: bool) -> Any:
    return nullcontext()


def _masks_that_ask() -> Any:
    return mock.patch("latentscale.embedders.encoder.model.known_padding", _untold)


def _one_ready() -> Any:
    return mock.patch.dict("latentscale.embedders.encoder.embedder._READY", {"cuda": 1})


@contextmanager
def _row_masks() -> Generator[None]:
    """Masks of padding alone as one row a text, which the kernels spread: a matrix a text is written and read else."""
    from transformers import masking_utils

    before = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]

    def made(**given: Any) -> Any:
        mask = given.get("attention_mask")
        everywhere = given.get("mask_function") is masking_utils.bidirectional_mask_function
        if mask is None or not everywhere or mask.shape[1] != given["kv_length"]:
            return before(**given)
        return mask[:, None, None, :]

    masking_utils.AttentionMaskInterface.register("sdpa", made)
    try:
        yield
    finally:
        masking_utils.AttentionMaskInterface.register("sdpa", before)


def _stand_in_for(package: str) -> None:
    """Let a package be imported that the machine lacks, and that the embedding of a shard never calls."""
    if package in sys.modules or importlib.util.find_spec(package) is not None:
        return
    module = types.ModuleType(package)
    module.__getattr__ = lambda name: mock.MagicMock(name=f"{package}.{name}")  # type: ignore[method-assign]
    sys.modules[package] = module


def main() -> int:
    """Run the comparison and write its figures; 1 if a part failed."""
    parser = argparse.ArgumentParser(description="What is between a GPU and its texts.")
    parser.add_argument("--data", type=Path, default=ROOT / ".gpu")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    parser.add_argument("--quick", action="store_true", help="a rehearsal on the processor")
    parser.add_argument("--seconds", type=float, default=150.0, help="no part begins later")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # What the image has comes first: these are for what it lacks.
    sys.path.append(str(options.data / "packages"))
    options.out.mkdir(parents=True, exist_ok=True)
    return FeedComparison(options.data, options.out, quick=options.quick, seconds=options.seconds).run()


if __name__ == "__main__":
    raise SystemExit(main())
