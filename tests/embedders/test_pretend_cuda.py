"""The path of a GPU on a device that refuses what a GPU refuses, with memory that runs out."""

from __future__ import annotations

import copy

import numpy as np
import pytest

for package in ("torch", "transformers", "sentence_transformers"):
    pytest.importorskip(package, reason=f"the model is made with {package}")

import torch  # noqa: E402 - it may be missing

from latentscale.config import EmbedConfig  # noqa: E402
from latentscale.embedders import embedder_spec  # noqa: E402
from latentscale.embedders.encoder.loading import LoadSettings, load_encoder  # noqa: E402
from latentscale.embedders.sentence_folder import read_sentence_folder  # noqa: E402
from tests.embedders.pretend_cuda import pretended_gpu  # noqa: E402
from tests.embedders.test_transformers import opened, some_texts  # noqa: E402
from tests.embedders.tiny_models import sentence_encoder  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="it pretends a GPU where there is none"),
]
TEXTS = some_texts(120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sentence_encoder(
        tmp_path_factory.mktemp("model") / "tiny", heads=("Dense", "Normalize"), pooling=("cls", "max")
    )


@pytest.fixture
def on_gpu(folder, monkeypatch):
    """Opens the model on the device; its files were read before, on the processor."""
    loaded = load_encoder(read_sentence_folder(folder), LoadSettings(device="cpu", precision="fp32"))
    copies = iter([copy.deepcopy(loaded) for _ in range(4)])
    monkeypatch.setattr("latentscale.embedders.encoder.model.load_encoder", lambda *_: next(copies))

    def opened_there(batch_tokens: int):
        options = {"precision": "fp32", "batch_tokens": batch_tokens}
        return embedder_spec(EmbedConfig(model=str(folder), options=options)).open("cuda:0")

    return opened_there


def test_the_device_refuses_what_a_gpu_refuses():
    with pretended_gpu(limit=10_000) as gpu:
        there = torch.ones(4, 3).to("cuda:0")
        assert (there.device.type, gpu.to_device) == ("cuda", 1)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(4, 3)
        with pytest.raises(TypeError, match="to numpy"):
            there.numpy()
        with pytest.raises(torch.OutOfMemoryError):
            torch.zeros(10_000, device="cuda:0")
        assert (there * 2).cpu().sum() == 24


def test_vectors_are_those_of_the_processor_and_no_batch_is_waited_for(folder, on_gpu):
    expected = opened(folder, precision="fp32").embed(TEXTS).vectors
    with pretended_gpu() as gpu:
        embedder = on_gpu(batch_tokens=600)
        before = (gpu.to_device, gpu.to_host, gpu.waits)
        found = embedder.embed(TEXTS).vectors
        batches = embedder.work.batches
    assert np.abs(found - expected).max() < 1e-5
    assert batches > 5
    # Two tensors go there for each batch and one comes back, all of them through pinned memory.
    assert gpu.to_device - before[0] == 2 * batches
    assert gpu.to_host - before[1] == batches
    assert gpu.pinned >= 2 * batches
    # No batch is waited for but the results of the last ones, at the end.
    assert gpu.waits == before[2]
    assert gpu.events == batches


def test_memory_that_runs_out_halves_the_budget(folder, on_gpu):
    expected = opened(folder, precision="fp32").embed(TEXTS).vectors
    with pretended_gpu() as gpu:
        embedder = on_gpu(batch_tokens=50_000)
        weights = gpu.alive
    with pretended_gpu() as large:
        on_gpu(batch_tokens=50_000).embed(TEXTS)
    limit = weights + (large.peak - weights) // 3
    with pretended_gpu(limit=limit) as gpu:
        embedder = on_gpu(batch_tokens=50_000)
        found = embedder.embed(TEXTS)
    assert found.halved > 0
    assert gpu.peak <= limit
    assert np.abs(found.vectors - expected).max() < 1e-5
