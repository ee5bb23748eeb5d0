"""Near duplicates of a map from its stored graph, compared with SemHash on the same vectors and with all pairs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from benchmarks import corpora, workspaces
from benchmarks.corpora import Context
from benchmarks.processes import Usage, fresh, own_cpu_seconds, run_command
from benchmarks.report import Result, Target

THRESHOLDS = (0.95, 0.9)
ROWS_AT_ONCE = 2_048
ALL, OURS, SEMHASH = "all pairs, numpy", "latentscale, from the stored graph", "SemHash, its index and its query"
FIGURES = ("cpu_s", "wall_s", "peak_mb", "kept", "pairs_left", "dropped_for_nothing")


def run(context: Context) -> Result:
    """Make a map, then run each method on its vectors in a fresh process; evaluated by all pairs."""
    corpus = corpora.sample(context, 5_000) if context.quick else corpora.full_corpus(context)
    folder = context.emptied("duplicates")
    workspace = folder / "workspace"
    workspaces.run_corpus(corpus, workspace, "--set", "publish.viewer=false", compiled=context.compiled)
    fresh(write_inputs, workspace=workspace, folder=folder)
    graph = workspaces.record(workspace, "neighbors")
    rows: list[dict[str, Any]] = []
    results: dict[tuple[str, float], dict[str, Any]] = {}
    pairs: dict[float, int] = {}
    for threshold in THRESHOLDS:
        outputs: dict[str, tuple[Usage, dict[str, Any]]] = {
            ALL: fresh(all_pairs, folder=folder, threshold=threshold),
            OURS: fresh(ours, workspace=workspace, folder=folder, threshold=threshold),
        }
        pairs[threshold] = outputs[ALL][1]["pairs"]
        if context.semhash_python:
            usage, stdout = run_command([context.semhash_python, "-c", SEMHASH_SCRIPT, str(folder), str(threshold)])
            outputs[SEMHASH] = usage, json.loads(stdout.splitlines()[-1])
        for name, (usage, facts) in outputs.items():
            _, evaluation = fresh(judge, folder=folder, kept=facts["file"])
            row = {"peak_mb": usage.peak_mb, **facts, **evaluation}
            results[name, threshold] = row
            rows.append({"what": name, "threshold": threshold, **{figure: row[figure] for figure in FIGURES}})
    targets: list[Target] = []
    for threshold in THRESHOLDS:
        our_row = results[OURS, threshold]
        percent_left = 100 * our_row["pairs_left"] / max(pairs[threshold], 1)
        targets.append(Target(what=f"{threshold:g}: pairs left, of all pairs", value=percent_left, limit=0.1, unit="%"))
        semhash_row = results.get((SEMHASH, threshold))
        if semhash_row is not None:
            cpu_ratio = our_row["cpu_s"] / semhash_row["cpu_s"]
            targets.append(Target(what=f"{threshold:g}: CPU-seconds of SemHash's", value=cpu_ratio, limit=1))
            pairs_ratio = our_row["pairs_left"] / max(semhash_row["pairs_left"], 1)
            targets.append(Target(what=f"{threshold:g}: pairs left, of SemHash's", value=pairs_ratio, limit=1))
    return Result(
        title="Duplicates of a map from its stored neighbour graph, beside SemHash and all pairs on the same vectors.",
        parameters=corpus.facts()
        | {
            "pairs": {f"{threshold:g}": count for threshold, count in pairs.items()},
            "recall of the graph": graph["counts"]["recall"],
            "CPU-seconds of the graph": graph["cost"]["cpu_seconds"],
        },
        rows=rows,
        targets=targets,
        notes=[
            "The vectors are those of the map, of the static model. LatentScale reads vectors, texts and graph in the "
            "time that is given, the others are given what they compare. The graph is made by every run for its layout "
            "and not counted: its cost is a parameter.",
            "`pairs` have at least the threshold as cosine, identical vectors included; `pairs_left` those that are "
            "both kept, `dropped_for_nothing` the dropped documents that are in no pair with a kept one.",
            "LatentScale keeps the documents with the most others near them, SemHash and all pairs the first ones.",
        ],
    )


# ------------------------------------------------------------------------------------------------ in fresh processes


def write_inputs(workspace: str, folder: str) -> dict[str, Any]:
    """Write the vectors of a map as an array, and its texts as a JSON list."""
    import numpy as np

    import latentscale

    documents = latentscale.open(workspace).the_map()
    vectors = documents.vectors()
    np.save(Path(folder, "vectors.npy"), vectors.matrix)
    texts = documents.documents().select("row_id", "text").collect().sort("row_id")
    assert texts["row_id"].to_list() == vectors.row_ids.tolist(), "a first run numbers its documents by offset"
    Path(folder, "texts.json").write_text(json.dumps(texts["text"].to_list()), encoding="utf-8")
    return {}


def ours(workspace: str, folder: str, threshold: float) -> dict[str, Any]:
    """Find the duplicates of the map by the SDK."""
    import numpy as np

    import latentscale

    documents = latentscale.open(workspace).the_map()
    cpu, wall = own_cpu_seconds(), time.perf_counter()
    result = documents.duplicates(threshold)
    cost = {"cpu_s": own_cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall}
    np.save(Path(folder, "ours.npy"), result.kept)
    return cost | {"file": "ours.npy", "kept": len(result.kept)}


def all_pairs(folder: str, threshold: float) -> dict[str, Any]:
    """Compare all pairs of documents; keep each document that is similar to no kept one before it."""
    import numpy as np

    matrix = np.load(Path(folder, "vectors.npy"))
    cpu, wall = own_cpu_seconds(), time.perf_counter()
    first, second = [], []
    for start in range(0, len(matrix), ROWS_AT_ONCE):
        scores = matrix[start : start + ROWS_AT_ONCE] @ matrix[start:].T
        row, column = np.nonzero(scores >= threshold - 1e-6)
        later = column > row
        first.append(row[later] + start)
        second.append(column[later] + start)
    first_of_pair, second_of_pair = np.concatenate(first), np.concatenate(second)
    starts = np.searchsorted(first_of_pair, np.arange(len(matrix) + 1))
    kept = np.ones(len(matrix), dtype=bool)
    for document in range(len(matrix)):
        if kept[document]:
            kept[second_of_pair[starts[document] : starts[document + 1]]] = False
    cost = {"cpu_s": own_cpu_seconds() - cpu, "wall_s": time.perf_counter() - wall}
    np.save(Path(folder, "pairs.npy"), np.stack([first_of_pair, second_of_pair]))
    np.save(Path(folder, "all.npy"), np.flatnonzero(kept))
    return cost | {"file": "all.npy", "kept": int(kept.sum()), "pairs": len(first_of_pair)}


SEMHASH_SCRIPT = """
import json, pathlib, resource, sys, time
import numpy as np
from semhash import SemHash
class NoModel:
    def encode(self, *given, **options):
        raise RuntimeError("the vectors are given")
folder = pathlib.Path(sys.argv[1])
vectors = np.load(folder / "vectors.npy")
texts = json.loads((folder / "texts.json").read_text())
records = [{"row": row, "text": text} for row, text in enumerate(texts)]
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
cpu, wall = used(), time.perf_counter()
index = SemHash.from_embeddings(embeddings=vectors, records=records, model=NoModel(), columns=["text"])
selected = index.self_deduplicate(threshold=float(sys.argv[2])).selected
cost = {"cpu_s": used() - cpu, "wall_s": time.perf_counter() - wall}
np.save(folder / "semhash.npy", np.array([record["row"] for record in selected]))
print(json.dumps(cost | {"file": "semhash.npy", "kept": len(selected)}))
"""


def judge(folder: str, kept: str) -> dict[str, Any]:
    """Count pairs that are both kept, and dropped documents that are in no pair with a kept one."""
    import numpy as np

    first, second = np.load(Path(folder, "pairs.npy"))
    is_kept = np.zeros(len(np.load(Path(folder, "vectors.npy"), mmap_mode="r")), dtype=bool)
    is_kept[np.load(Path(folder, kept))] = True
    covered = is_kept.copy()
    covered[first[is_kept[second]]] = True
    covered[second[is_kept[first]]] = True
    return {"pairs_left": int((is_kept[first] & is_kept[second]).sum()), "dropped_for_nothing": int((~covered).sum())}
