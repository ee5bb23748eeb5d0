"""The embedder `transformers` on a GPU, compared with a bare loop over prepared batches; takes under two minutes.

    python -m benchmarks.gpu.pack_embed --texts CORPUS.parquet     # on a machine with a network
    python benchmarks/gpu/embed.py [--data .gpu] [--out $OUT] [--quick]

Needs torch, transformers, tokenizers, safetensors, NumPy and pyarrow, and the packages in .gpu/packages. It writes
``embed.json`` to ``--out``. A part that fails is recorded, and the others continue. ``--quick`` is a test run on the
CPU with a few texts, whose figures mean nothing.

Comparisons:

- tokens/s of ``embed``, from texts to vectors on the host, with those of a loop over the same batches of tokens in
  pinned memory, which does no tokenising, sorting or padding;
- both with the rate of a large bfloat16 matrix product on the same chip;
- vectors of fp16 and bf16 with fp32, and of the GPU with the CPU;
- the same vectors after the GPU ran out of memory for the batches;
- how long the device waited for a batch, and how often the host waited for the device.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROWS, QUICK_ROWS = 20_000, 4
TOKENS, QUICK_TOKENS = 256, 16
REPEATS = 3
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


class Comparison:
    """The parts of the comparison, and their results.

    Parameters
    ----------
    data : Path
        Folder written by ``pack_embed``.
    quick : bool
        Run on the CPU with a few texts.
    """

    def __init__(self, data: Path, *, quick: bool) -> None:
        import pyarrow.parquet as pq
        import torch

        self.torch = torch
        self.quick = quick
        self.device = "cpu" if quick else "cuda:0"
        self.model = data / "minilm"
        # CPUs without matrix units for half precision take seconds for a hundred tokens.
        self.tokens = QUICK_TOKENS if quick else TOKENS
        texts = pq.read_table(data / "texts.parquet")["text"].to_pylist()
        self.texts: list[str] = texts[: QUICK_ROWS if quick else ROWS]
        self.found: dict[str, Any] = {}
        self.vectors: dict[str, Any] = {}
        self.began = time.perf_counter()

    def run(self) -> None:
        """Run all parts."""
        parts: list[Callable[[], dict[str, Any]]] = [
            self.environment,
            self.matrix_limit,
            *(
                self._named(f"minilm_{p}", lambda p=p: self.against_bare(self.model, p))
                for p in ("bf16", "fp16", "fp32")
            ),
            self.agreement,
            self.waiting,
            self.synchronisations,
            self.out_of_memory,
            self.chunks,
            self.base_size,
            self.compiled,
        ]
        for part in parts:
            began = time.perf_counter()
            try:
                answer = part()
            except Exception:  # noqa: BLE001 - continue with the other parts
                answer = {"failed": traceback.format_exc(limit=-6)}
            answer["part_seconds"] = round(time.perf_counter() - began, 2)
            self.found[part.__name__] = answer
            print(f"[{time.perf_counter() - self.began:5.1f}] {part.__name__}: {json.dumps(answer)}", flush=True)
            self._free()

    @staticmethod
    def _named(name: str, part: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        part.__name__ = name
        return part

    # ------------------------------------------------------------------------------------------------------ the parts

    def environment(self) -> dict[str, Any]:
        """Record versions and the chip."""
        import platform

        import tokenizers
        import transformers

        facts: dict[str, Any] = {
            "python": platform.python_version(),
            "torch": self.torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "processors": len(os.sched_getaffinity(0)),
            "texts": len(self.texts),
            "characters": sum(map(len, self.texts)),
        }
        if not self.quick:
            facts["gpu"] = self.torch.cuda.get_device_name(0)
            facts["memory_gib"] = round(self.torch.cuda.mem_get_info()[1] / 2**30, 1)
        return facts

    def matrix_limit(self) -> dict[str, Any]:
        """Measure the rate of large matrix products."""
        rates: dict[str, Any] = {}
        size = 512 if self.quick else 8_192
        for name, dtype in (("bf16", self.torch.bfloat16), ("fp16", self.torch.float16), ("fp32", self.torch.float32)):
            a, b = (self.torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
            count = 2 if self.quick else 10
            seconds = self._best(lambda a=a, b=b, count=count: [a @ b for _ in range(count)])
            rates[f"{name}_tflops"] = round(2 * size**3 * count / seconds / 1e12, 1)
        return rates

    def against_bare(self, folder: Path, precision: str) -> dict[str, Any]:
        """Measure tokens/s of the embedder and of the bare loop on the same batches."""
        embedder = self._open(folder, precision=precision)
        embedder.embed(self.texts[: len(self.texts) // 4])
        results: list[Any] = []
        seconds = self._best(lambda: results.append(embedder.embed(self.texts)))
        name = f"{folder.name} {precision}"
        self.vectors[name] = results[-1].vectors
        work = embedder.work
        batches = self._ready(embedder)
        tokens = sum(int(lengths.sum()) for _, lengths in batches)
        padded = sum(tokens_of_batch.numel() for tokens_of_batch, _ in batches)
        bare = self._best(lambda: self._bare_loop(embedder, batches))
        flops = self._flops(folder, batches)
        limit = self.found.get("matrix_limit", {}).get(f"{precision}_tflops")
        return {
            "seconds": round(seconds, 3),
            "bare_seconds": round(bare, 3),
            "tokens": tokens,
            "padded_share": round(1 - tokens / padded, 4),
            "texts_per_s": round(len(self.texts) / seconds),
            "tokens_per_s": round(tokens / seconds),
            "bare_tokens_per_s": round(tokens / bare),
            "of_bare": round(bare / seconds, 3),
            "tflops": round(flops / seconds / 1e12, 2),
            "of_matrix_limit": round(flops / seconds / 1e12 / limit, 3) if limit else None,
            "bare_of_matrix_limit": round(flops / bare / 1e12 / limit, 3) if limit else None,
            "batches": len(batches),
            "attention": work.attention,
            "waited_share": round(work.waiting_seconds / work.seconds, 3),
        }

    def agreement(self) -> dict[str, Any]:
        """Compare with fp32, and the GPU with the CPU."""
        import numpy as np

        reference = self.vectors["minilm fp32"]
        agreement: dict[str, Any] = {}
        for precision in ("fp16", "bf16"):
            cosine = np.einsum("ij,ij->i", reference, self.vectors[f"minilm {precision}"])
            agreement[precision] = {"mean": round(float(cosine.mean()), 7), "worst": round(float(cosine.min()), 7)}
        sample_rows = list(range(0, len(self.texts), max(1, len(self.texts) // 64)))[:64]
        host = (
            self._open(self.model, precision="fp32", device="cpu")
            .embed([self.texts[row] for row in sample_rows])
            .vectors
        )
        agreement["fp32_with_processor_worst_difference"] = float(np.abs(host - reference[sample_rows]).max())
        return agreement

    def waiting(self) -> dict[str, Any]:
        """Measure how long the device was idle between batches, by events on its own clock."""
        if self.quick:
            return {"skipped": "no GPU"}
        embedder = self._open(self.model, precision="bf16")
        embedder.embed(self.texts)
        events: list[tuple[Any, Any]] = []
        model = embedder._model

        def timed(tokens: Any, lengths: Any, **options: Any) -> Any:
            begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            vectors = model(tokens, lengths, **options)
            end.record()
            events.append((begin, end))
            return vectors

        timed.device = model.device  # type: ignore[attr-defined]
        embedder._model = timed
        began = time.perf_counter()
        embedder.embed(self.texts)
        wall = time.perf_counter() - began
        busy = sum(begin.elapsed_time(end) for begin, end in events) / 1e3
        gaps = sum(a[1].elapsed_time(b[0]) for a, b in pairwise(events)) / 1e3
        return {
            "wall_s": round(wall, 3),
            "in_batches_s": round(busy, 3),
            "between_batches_s": round(gaps, 3),
            "waiting_share": round(gaps / (busy + gaps), 4),
            "before_the_first_and_after_the_last_s": round(wall - busy - gaps, 3),
        }

    def synchronisations(self) -> dict[str, Any]:
        """Count how often the host waits for the device in one call of ``embed``."""
        if self.quick:
            return {"skipped": "no GPU"}
        embedder = self._open(self.model, precision="bf16")
        embedder.embed(self.texts[:2_000])
        before = embedder.work.batches
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.torch.cuda.set_sync_debug_mode("warn")
            try:
                embedder.embed(self.texts[:8_000])
            finally:
                self.torch.cuda.set_sync_debug_mode("default")
        locations: dict[str, int] = {}
        for warning in caught:
            if "synchroniz" in str(warning.message).lower():
                location = f"{Path(warning.filename).name}:{warning.lineno}"
                locations[location] = locations.get(location, 0) + 1
        return {"batches": embedder.work.batches - before, "synchronisations": locations}

    def out_of_memory(self) -> dict[str, Any]:
        """Check that a batch budget that exceeds the memory is halved, and that the vectors are equal."""
        import numpy as np

        if self.quick:
            return {"skipped": "no GPU"}
        total = self.torch.cuda.mem_get_info()[1]
        embedder = self._open(self.model, precision="fp16", batch_tokens=1 << 21)
        self.torch.cuda.empty_cache()
        self.torch.cuda.set_per_process_memory_fraction(min(1.0, 1.0 * 2**30 / total))
        try:
            vectors = embedder.embed(self.texts).vectors
        finally:
            self.torch.cuda.set_per_process_memory_fraction(1.0)
        cosine = np.einsum("ij,ij->i", vectors, self.vectors["minilm fp16"])
        return {
            "halvings": embedder.work.halvings,
            "batch_tokens": embedder.work.batch_tokens,
            "cosine_worst": round(float(cosine.min()), 7),
        }

    def chunks(self) -> dict[str, Any]:
        """Long texts in windows: all their tokens are read, and the processor gives the same vectors."""
        import numpy as np

        size, count = (2, 2) if self.quick else (60, 200)
        long = [" ".join(self.texts[row * size : (row + 1) * size]) for row in range(count)]
        options = {"precision": "fp32", "long": "chunk", "overlap": self.tokens // 8}
        embedder = self._open(self.model, **options)
        began = time.perf_counter()
        found = embedder.embed(long)
        seconds = time.perf_counter() - began
        host = self._open(self.model, device="cpu", **options).embed(long[:2]).vectors
        return {
            "texts": count,
            "tokens": found.tokens,
            "truncated": found.truncated,
            "tokens_per_s": round(found.tokens / seconds),
            "cosine_with_processor": round(float(np.einsum("ij,ij->i", host, found.vectors[:2]).min()), 7),
        }

    def base_size(self) -> dict[str, Any]:
        """Compare an encoder of the size of BERT base, with random weights."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "base"
            write_base(self.model, folder, quick=self.quick)
            return self.against_bare(folder, "bf16")

    def compiled(self) -> dict[str, Any]:
        """Measure the compile time of torch.compile, and the rate with it."""
        import numpy as np

        if self.quick:
            return {"skipped": "compiling for a processor takes minutes"}
        embedder = self._open(self.model, precision="bf16", compile=True)
        began = time.perf_counter()
        embedder.embed(self.texts)
        first = time.perf_counter() - began
        done: list[Any] = []
        seconds = self._best(lambda: done.append(embedder.embed(self.texts)), repeats=2)
        cosine = np.einsum("ij,ij->i", done[-1].vectors, self.vectors["minilm bf16"])
        return {
            "first_s": round(first, 2),
            "seconds": round(seconds, 3),
            "tokens_per_s": round(done[-1].tokens / seconds),
            "cosine_worst": round(float(cosine.min()), 7),
        }

    # ------------------------------------------------------------------------------------------------------ its tools

    def _open(self, folder: Path, *, device: str | None = None, **options: Any) -> Any:
        from latentscale.config import EmbedConfig
        from latentscale.embedders.transformers import TransformersSpec

        config = EmbedConfig(model=str(folder), max_tokens=self.tokens, options=options)
        return TransformersSpec.from_settings(config, vectors_column=None).open(device or self.device)

    def _ready(self, embedder: Any) -> list[tuple[Any, Any]]:
        """Return all batches of the texts as the embedder makes them, in pinned memory."""
        from latentscale.embedders.encoder.feed import Tally

        budget = embedder.work.batch_tokens
        batches = embedder._documents.batches(self.texts, Tally(len(self.texts)), budget=lambda: budget)
        return [(batch.tokens, batch.lengths) for batch in map(embedder._pinned, batches)]

    def _bare_loop(self, embedder: Any, batches: list[tuple[Any, Any]]) -> Any:
        """Encode prepared batches as written by hand: copy, encode, mean, normalise; one copy back at the end."""
        torch, encoder = self.torch, embedder._model._encoder
        vectors: list[Any] = []
        with torch.inference_mode():
            for tokens, lengths in batches:
                ids = tokens.to(self.device, non_blocking=True).long()
                mask = (
                    torch.arange(ids.shape[1], device=self.device) < lengths.to(self.device, non_blocking=True)[:, None]
                )
                hidden = encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
                share = mask[:, :, None].to(hidden.dtype)
                mean = (hidden * share).sum(1, dtype=torch.float32) / share.sum(1, dtype=torch.float32)
                vectors.append(torch.nn.functional.normalize(mean, dim=1))
            return torch.cat(vectors).cpu()

    def _flops(self, folder: Path, batches: list[tuple[Any, Any]]) -> float:
        """Count the operations of the matrix products of a BERT-like encoder, for tokens that are not padding."""
        config = json.loads((folder / "config.json").read_text())
        width, layers = config["hidden_size"], config["num_hidden_layers"]
        dense = 2 * layers * (4 * width * width + 2 * width * config["intermediate_size"])
        tokens = sum(float(lengths.sum()) for _, lengths in batches)
        squares = sum(float((lengths.double() ** 2).sum()) for _, lengths in batches)
        return dense * tokens + 4.0 * layers * width * squares

    def _best(self, work: Callable[[], Any], *, repeats: int = REPEATS) -> float:
        """Return the seconds of the fastest of a few runs, including the work of the device."""
        seconds: list[float] = []
        for _ in range(1 if self.quick else repeats):
            self._wait()
            began = time.perf_counter()
            work()
            self._wait()
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    def _wait(self) -> None:
        if not self.quick:
            self.torch.cuda.synchronize()

    def _free(self) -> None:
        import gc

        gc.collect()
        if not self.quick:
            self.torch.cuda.empty_cache()


def write_base(model: Path, folder: Path, *, quick: bool) -> None:
    """Write an encoder of the size of BERT base, with random weights and the tokenizer of ``model``."""
    import torch
    from transformers import AutoConfig, AutoModel

    for path in model.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".txt"):
            (folder / path.relative_to(model)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(model)).write_bytes(path.read_bytes())
    config = AutoConfig.from_pretrained(model)
    config.update(dict(BASE, num_hidden_layers=1) if quick else BASE)
    torch.manual_seed(0)
    AutoModel.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"word_embedding_dimension": 768, "pooling_mode_mean_tokens": True}))


def main() -> int:
    """Run the comparison and write its results; return 1 if a part failed."""
    parser = argparse.ArgumentParser(description="The embedder `transformers` on a GPU, beside a bare loop.")
    parser.add_argument("--data", type=Path, default=ROOT / ".gpu")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    parser.add_argument("--quick", action="store_true", help="a rehearsal on the processor")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.path.insert(0, str(ROOT))
    # Appended, so that packages of the image take precedence.
    sys.path.append(str(options.data / "packages"))
    comparison = Comparison(options.data, quick=options.quick)
    comparison.run()
    options.out.mkdir(parents=True, exist_ok=True)
    results = {
        "rehearsal": options.quick,
        "seconds": round(time.perf_counter() - comparison.began, 1),
    } | comparison.found
    (options.out / "embed.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return int(any("failed" in part for part in comparison.found.values()))


if __name__ == "__main__":
    raise SystemExit(main())
