from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale
from latentscale.config import JobConfig
from latentscale.errors import ConfigError, RequestError, ResourceError
from latentscale.machine import Place
from latentscale.pipeline.estimate import estimate_size
from latentscale.pipeline.preflight import NOT_OF_A_RUN, PROCESS_BYTES, check_disk, check_place, stage_costs
from latentscale.readers.check import check_corpus
from latentscale.readers.inputs import list_inputs
from latentscale.registry import stages
from latentscale.stages.previewed import DOCUMENTS, preview_cost
from latentscale.stages.stage import Cost, JobSize
from latentscale.storage.objects import Store

JOB = JobConfig.model_validate({"corpus": {"sources": ["demo"]}, "out": "nowhere"})


def test_a_set_that_exceeds_memory_is_refused_with_a_size_that_fits() -> None:
    place = Place(memory_bytes=16e9, name="node 7")
    size = JobSize(documents=10_000_000, dim=256)
    with pytest.raises(ResourceError) as caught:
        check_place("neighbors", stage_costs(JOB, size)["neighbors"], place, size)
    assert caught.value.exit_code == 4
    assert "16.0 GB are free on node 7" in str(caught.value)
    share = float(str(caught.value).split("--sample ")[1].split(")")[0])
    for documents, fits in ((10_000_000 * share * 0.98, True), (10_000_000 * share * 1.1, False)):
        size = JobSize(documents=int(documents), dim=256)
        cost = stage_costs(JOB, size)["neighbors"]
        if fits:
            check_place("neighbors", cost, place, size)
        else:
            with pytest.raises(ResourceError):
                check_place("neighbors", cost, place, size)


def test_a_scratch_disk_that_is_too_small_is_refused() -> None:
    size = JobSize(documents=1_000_000, dim=768)
    place = Place(memory_bytes=1e12, disk_free_bytes=1e9, name="node 7")
    with pytest.raises(ResourceError, match=r"3\.1 GB of disk .* 1\.0 GB are free on node 7"):
        check_place("neighbors", stage_costs(JOB, size)["neighbors"], place, size)


def test_a_workspace_that_the_disk_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="free on its disk"):
        check_disk(Store(str(tmp_path / "not" / "there" / "yet")), 1e18)


@pytest.mark.parametrize(
    "entry", [entry for entry in stages() if entry.name not in NOT_OF_A_RUN], ids=lambda entry: entry.name
)
def test_the_cost_of_a_stage_grows_with_the_documents(entry) -> None:
    small, large = (
        stage_costs(JOB, JobSize(documents=n, dim=256, text_bytes=450.0 * n))[entry.name] for n in (100_000, 10_000_000)
    )
    assert 15 * small.cpu_seconds < large.cpu_seconds < 400 * small.cpu_seconds
    assert large.memory_bytes >= small.memory_bytes
    assert entry.unit == "shard" or large.memory_bytes > 0


# benchmarks/results: scale and pipeline_63k, on a quiet machine whose cores were 1.1 times as fast as the reference.
@pytest.mark.parametrize(
    ("documents", "characters", "cpu_seconds", "peak_mb"),
    [(10_000, 397, 6.8, 645), (63_440, 409, 26.5, 1_190), (100_000, 397, 41, 1_230), (1_000_000, 397, 590, 2_800)],
)
def test_the_rates_are_those_that_were_measured(
    documents: int, characters: int, cpu_seconds: float, peak_mb: float
) -> None:
    costs = stage_costs(JOB, JobSize(documents=documents, dim=256, text_bytes=documents * (characters + 20.0)))
    assert sum(cost.cpu_seconds for cost in costs.values()) == pytest.approx(cpu_seconds, rel=0.3)
    peak = PROCESS_BYTES + max(cost.memory_bytes for cost in costs.values())
    assert peak / 1e6 == pytest.approx(peak_mb, rel=0.15)


def test_vectors_of_very_many_dimensions_need_the_memory_of_their_covariance() -> None:
    narrow, wide = (stage_costs(JOB, JobSize(documents=150, dim=dim))["project"] for dim in (256, 70_000))
    assert narrow.memory_bytes < 1e9
    assert wide.memory_bytes == pytest.approx(245e9)


def test_constants_of_the_rates_equal_those_of_the_backend() -> None:
    from latentscale.backends.cpu.backend import OWN_TREE
    from latentscale.backends.cpu.layout import default_epochs
    from latentscale.backends.cpu.neighbors import EXACT_LIMIT
    from latentscale.stages import rates

    assert (rates._EXACT_LIMIT, rates.OWN_TREE) == (EXACT_LIMIT, OWN_TREE)
    for documents in (10_000, 10_001):
        for dimensions in (2, 3, 5):
            asked = default_epochs(documents, dimensions)
            by_default = rates.layout_seconds(documents, epochs=None, dimensions=dimensions)
            assert by_default == rates.layout_seconds(documents, epochs=asked, dimensions=dimensions)


def test_kmeans_is_planned_by_its_clusters() -> None:
    from latentscale.backends.cpu import closure_kmeans, clustering
    from latentscale.stages import rates

    assert (rates._FEW_CLUSTERS, rates._NEAR) == (clustering.FEW_CLUSTERS, closure_kmeans.CLOSURE_SIZE)
    assert rates._STARTED == clustering._SAMPLE_PER_CLUSTER

    def cost(documents: int, **settings: object) -> Cost:
        job = JOB.model_copy(update={"cluster": JOB.cluster.model_copy(update={"method": "kmeans", **settings})})
        return stage_costs(job, JobSize(documents=documents, dim=256))["cluster"]

    many, fewer = cost(1_000_000, n_clusters=5_000), cost(1_000_000, n_clusters=1_000)
    assert many.parallel
    assert 1.5 * fewer.cpu_seconds < many.cpu_seconds < 5 * fewer.cpu_seconds
    # Ward's method over the centroids has a cost of eight bytes for each pair.
    assert many.memory_bytes - fewer.memory_bytes > 8 * (5_000**2 - 1_000**2)
    assert cost(1_000_000, n_clusters=20).cpu_seconds < cost(1_000_000, n_clusters=200).cpu_seconds < many.cpu_seconds
    assert cost(1_000_000, levels=(5_000, 500)).cpu_seconds == many.cpu_seconds
    assert cost(1_000_000).cpu_seconds < 200
    # On a layout distances are of a few dimensions.
    assert cost(1_000_000, n_clusters=5_000, space="layout").cpu_seconds < many.cpu_seconds / 5


def embed_cost(embedder: str, dim: int, gpus: int = 0) -> Cost:
    size = JobSize(documents=100_000, dim=dim, text_bytes=45e6, embedder=embedder, gpus=gpus)
    return stage_costs(JOB, size)["embed"]


def test_each_kind_of_embedder_has_its_own_rate() -> None:
    static = embed_cost("static", 256)
    assert embed_cost("column", 256).cpu_seconds < static.cpu_seconds
    for kind in ("transformers", "onnx", "vllm"):
        small, large = embed_cost(kind, 384), embed_cost(kind, 768)
        assert small.cpu_seconds > 500 * static.cpu_seconds  # 16.5 and 38,500 documents a CPU-second
        assert large.cpu_seconds == pytest.approx(8 * small.cpu_seconds)
        assert small.gpu_seconds == 0
        on_gpus = embed_cost(kind, 768, gpus=8)
        assert on_gpus.gpu_seconds > 0
        assert on_gpus.cpu_seconds < small.cpu_seconds / 100


def test_a_plan_asks_what_if_without_a_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentscale.pipeline.plan.core_speed", lambda: 2.0)
    planned = latentscale.plan(documents=1_000_000, characters=900)
    half = stage_costs(JOB, JobSize(documents=1_000_000, dim=256, text_bytes=9e8))
    assert planned.cpu_seconds == pytest.approx(sum(cost.cpu_seconds for cost in half.values()) / 2, rel=0.01)
    assert planned.memory_gb == max(stage.memory_gb for stage in planned.stages)
    assert "assumed" in planned.basis
    embed = {"model": "sentence-transformers/all-mpnet-base-v2"}
    minutes: list[float] = []
    for gpus in (0, 8, 64):
        planned = latentscale.plan(documents=10**8, gpus=gpus, embed=embed, engine={"threads": 256})
        minutes.append(next(stage.minutes for stage in planned.stages if stage.stage == "embed"))
    assert minutes[0] > 100 * minutes[1]
    assert minutes[1] > 4 * minutes[2]
    with pytest.raises(RequestError, match="no corpus to plan for"):
        latentscale.plan()
    with pytest.raises(ConfigError, match="documents of 0 characters"):
        latentscale.plan(documents=10, characters=0)


def test_the_size_of_a_corpus_counts_only_selected_documents(tmp_path: Path, demo: pl.DataFrame) -> None:
    text = demo.select("text")
    text.write_parquet(tmp_path / "a.parquet", compression="zstd")
    text.write_ndjson(tmp_path / "a.jsonl")
    written = sum(len(one.encode()) for one in text["text"])
    for name in ("a.parquet", "a.jsonl"):
        for limit in (None, 800):
            corpus = {"sources": [str(tmp_path / name)], "text": "text", "limit": limit}
            job = JobConfig.model_validate({"corpus": corpus, "out": "nowhere"})
            inputs = list_inputs(job.corpus, [])
            size = estimate_size(inputs, job, check_corpus(inputs, job.corpus, job.ingest))
            assert size.bytes == pytest.approx(written * (limit or len(text)) / len(text), rel=0.1)


def with_preview(asked: bool | None, **publish: Any) -> JobConfig:
    return JobConfig.model_validate(JOB.model_dump() | {"project": {"preview": asked}, "publish": publish})


def test_a_plan_counts_the_preview_where_a_run_writes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    large = JobSize(documents=DOCUMENTS, dim=256, text_bytes=450.0 * DOCUMENTS)
    small = replace(large, documents=DOCUMENTS - 1)
    without = {size: stage_costs(with_preview(False), size)["project"] for size in (small, large)}
    assert stage_costs(with_preview(None), small)["project"] == without[small]
    assert stage_costs(with_preview(None, viewer=False), large)["project"] == without[large]
    shown = preview_cost(large, with_preview(None))
    assert shown is not None
    counted = stage_costs(with_preview(None), large)["project"]
    assert counted.cpu_seconds == pytest.approx(without[large].cpu_seconds + shown.cpu_seconds)
    assert counted.disk_bytes == pytest.approx(without[large].disk_bytes + shown.file_bytes)
    # Where documents are many the layout's own memory is more, before anything is shown.
    assert counted.memory_bytes == without[large].memory_bytes > shown.memory_bytes
    few = JobSize(documents=5_000, dim=256, text_bytes=450.0 * 5_000)
    assert stage_costs(with_preview(True), few)["project"].memory_bytes > (
        stage_costs(with_preview(False), few)["project"].memory_bytes
    )
    flat, space = (
        preview_cost(large, JobConfig.model_validate(JOB.model_dump() | {"project": {"map_dimensions": n}}))
        for n in (2, 3)
    )
    assert flat is not None
    assert space is not None
    assert 1.5 * flat.cpu_seconds < space.cpu_seconds < 3 * flat.cpu_seconds

    monkeypatch.setattr("latentscale.pipeline.plan.core_speed", lambda: 1.0)
    said = {n: latentscale.plan(documents=n, characters=450) for n in (DOCUMENTS - 1, DOCUMENTS)}
    assert [any("preview.html" in note for note in plan.notes) for plan in said.values()] == [False, True]


def test_a_model_that_is_not_here_is_planned_for_and_not_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a plan asked the hub")

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(huggingface_hub, "HfApi", refuse)
    for kind in ("auto", "transformers", "onnx"):
        planned = latentscale.plan(documents=1_000, embed={"model": "nobody/has-this-one", "kind": kind})
        assert any("nobody/has-this-one is not on this machine" in note for note in planned.notes)


def test_a_run_refuses_what_the_plan_finds_impossible(tmp_path: Path, small_corpus: Path) -> None:
    settings = {"text": "text", "engine": {"memory": "500MB"}}
    planned = latentscale.plan(small_corpus, out=tmp_path / "map", **settings)
    assert not planned.possible
    assert any("0.5 GB are free on this machine by engine.memory" in note for note in planned.notes)
    with pytest.raises(ResourceError, match=r"engine\.memory") as caught:
        latentscale.run(small_corpus, out=tmp_path / "map", progress="quiet", **settings)
    assert "--sample" in str(caught.value)
    assert not list(tmp_path.glob("map/documents/*"))
    assert latentscale.plan(small_corpus, text="text", engine={"memory": "8GB"}).possible
