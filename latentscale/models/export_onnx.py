"""Export a PyTorch sentence encoder as one ONNX graph from token ids to unit vectors.

If the model allows it, attention becomes one node of onnxruntime, which is faster than the dozen nodes of a trace. The
export is compared with the PyTorch model before its folder is renamed to the final name, so that an existing folder has
passed this check.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.demo import corpus_path
from latentscale.errors import ConfigError, WorkspaceError, require
from latentscale.machine import package_version
from latentscale.models.hub import ModelFolder, content_digest
from latentscale.models.quantise_onnx import EXTRA, Int8Settings, quantise

# The first opset with GELU as one node.
OPSET = 20
GRAPH, GRAPH_INT8, PROVENANCE = "onnx/model.onnx", "onnx/model_int8.onnx", "export.json"
USED_FOR = "writing a model as ONNX"
# Minimum cosine similarity; rounding errors alone stay above it.
LEAST_COSINE = 0.9999
# ONNX files are limited to two gigabytes; the weights of larger models are stored in a separate file.
_LARGE = 1_500_000_000
_ATTENTION = "latentscale_onnx"
_DESCRIPTIONS = 32
_PROBES = (
    "A library for reading and writing compressed archives.",
    "rust",
    "Where is my card? It was ordered three weeks ago, has not arrived, and nobody answers the telephone. " * 3,
    "Où est la bibliothèque ? Die Straße ist naß. 図書館はどこですか。",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """An encoder to export.

    Attributes
    ----------
    model : ModelFolder
    folder : Path
        Folder in it with the encoder's configuration, weights and tokenizer: often the model's folder itself.
    files : sequence of str
        Files to copy, relative to the model's folder.
    load : callable
        Loads the encoder with transformers, in float32 on the CPU, with attention ``eager``.
    wrapped : callable
        Wraps it in a module from token ids and mask to the exported output.
    output : str
        Name of that output.
    max_tokens : int
        Length of the longest text for which graph and PyTorch model are compared.
    """

    model: ModelFolder
    folder: Path
    files: Sequence[str]
    load: Callable[[], Any]
    wrapped: Callable[[Any], Any]
    output: str
    max_tokens: int


def export_encoder(encoder: Encoder, out: Path, *, int8: Int8Settings | None = None) -> Mapping[str, Any]:
    """Export an encoder to ONNX, with tokenizer and configuration, into the folder ``out``.

    Parameters
    ----------
    encoder : Encoder
    out : Path
        A folder that does not exist or is empty.
    int8 : Int8Settings, optional
        Also write a graph with 8-bit weights.

    Returns
    -------
    mapping
        The provenance, as in ``export.json``.

    Raises
    ------
    MissingPackageError
        If torch, transformers, onnx, onnxscript or onnxruntime is not installed.
    ConfigError
        If the model cannot be loaded or exported, or the exported graph computes different vectors.
    WorkspaceError
        If ``out`` is not empty.
    """
    for package in ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"):
        require(package, extra=EXTRA, used_for=USED_FOR)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorkspaceError(f"{out} exists already and is not empty", hint="Name a new folder: --out FOLDER.")
    out.parent.mkdir(parents=True, exist_ok=True)
    model = encoder.model
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        folder = Path(scratch) / "model"
        (folder / "onnx").mkdir(parents=True)
        with _quiet():
            loaded = encoder.load()
        wrapped = encoder.wrapped(loaded).eval()
        probe = Probe.of(encoder, wrapped)
        attention = _write_graph(wrapped, loaded, folder / GRAPH, probe)
        agreement = {"fp32": probe.compared(folder / GRAPH, least=LEAST_COSINE)}
        if int8 is not None:
            quantise(folder / GRAPH, folder / GRAPH_INT8, int8, probe.feeds)
            # Only checks that it runs: its quality is measured on the user's own documents.
            agreement["int8"] = probe.compared(folder / GRAPH_INT8, least=0.5)
        for name in encoder.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.path / name, folder / name)
        weights = [path.relative_to(model.path).as_posix() for path in encoder.folder.glob("*.safetensors")]
        provenance = {
            "model": model.name,
            "revision": model.revision,
            "source": content_digest(model.path, weights),
            "architecture": type(loaded).__name__,
            "output": encoder.output,
            "opset": OPSET,
            "attention": attention,
            "int8": None if int8 is None else asdict(int8),
            "least_cosine": agreement,
            "versions": {name: package_version(name) for name in ("torch", "transformers", "onnx", "onnxruntime")},
            "bytes": {
                path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.glob("onnx/*"))
            },
        }
        (folder / PROVENANCE).write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")
        if out.exists():
            out.rmdir()
        folder.rename(out)
    return provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A few tokenised texts, and their vectors by the PyTorch model.

    Attributes
    ----------
    ids, mask : int64 ndarray, shape (n, tokens)
    feeds : list of mapping
        Graph inputs of one text each, for these texts and some package descriptions.
    expected : float32 ndarray, shape (n, dim) or (n, tokens, dim)
    output : str
    """

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    feeds: list[dict[str, NDArray[np.int64]]]
    expected: NDArray[np.float32]
    output: str

    @classmethod
    def of(cls, encoder: Encoder, wrapped: Any) -> Probe:
        """Tokenise the texts, and run the PyTorch model."""
        torch: Any = require("torch", extra=EXTRA, used_for=USED_FOR)
        from tokenizers import Tokenizer

        reader: Any = Tokenizer.from_file(str(encoder.folder / "tokenizer.json"))
        reader.no_padding()
        reader.enable_truncation(encoder.max_tokens)
        rows = [encoding.ids for encoding in reader.encode_batch(list(_PROBES))]
        description_rows = [encoding.ids for encoding in reader.encode_batch(_descriptions())]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)], mask[index, : len(row)] = row, 1
        with torch.inference_mode():
            expected = wrapped(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        feeds = [
            {"input_ids": np.array([row], np.int64), "attention_mask": np.ones((1, len(row)), np.int64)}
            for row in (*rows, *description_rows)
        ]
        return cls(ids=ids, mask=mask, feeds=feeds, expected=expected, output=encoder.output)

    def compared(self, path: Path, *, least: float) -> float:
        """Return the lowest cosine similarity between a graph and the PyTorch model, in a batch and for single texts.

        Raises
        ------
        ConfigError
            If it is below ``least``.
        """
        runtime: Any = require("onnxruntime", extra=EXTRA, used_for=USED_FOR)
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
            return session.run([self.output], {"input_ids": ids, "attention_mask": mask})[0]

        worst = 1.0
        batch_outputs = run(self.ids, self.mask)
        for index, expected in enumerate(self.expected):
            tokens = int(self.mask[index].sum())
            single_output = run(self.ids[index : index + 1, :tokens], self.mask[index : index + 1, :tokens])[0]
            for output in (batch_outputs[index], single_output):
                # Compare token states without padding.
                unpadded = (slice(None, tokens),) if output.ndim == 2 else ()
                worst = min(worst, _cosine(output[unpadded], expected[unpadded]))
        if worst < least:
            raise ConfigError(
                f"{path.name} gives different vectors from the PyTorch model: cosine {worst:.5f}, below {least}",
                hint="Another version of torch or onnxruntime may export it correctly; or use torch: "
                "--set embed.kind=transformers.",
            )
        return round(worst, 6)


def _descriptions() -> list[str]:
    """Read some evenly spaced texts of the demo corpus."""
    import pyarrow.parquet as pq

    texts: list[str] = pq.read_table(corpus_path(), columns=["text"])["text"].to_pylist()
    return texts[:: -(-len(texts) // _DESCRIPTIONS)]


def _cosine(vector: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    cosine = float(np.vdot(vector, expected) / max(float(np.linalg.norm(vector) * np.linalg.norm(expected)), 1e-12))
    return cosine if np.isfinite(cosine) else -1.0


def _write_graph(wrapped: Any, loaded: Any, path: Path, probe: Probe) -> str:
    """Write the graph, with fused attention if its vectors agree; returns which attention was written."""
    with _fused_attention(loaded) as supported:
        if supported:
            try:
                _trace(wrapped, path, probe)
                probe.compared(path, least=LEAST_COSINE)
            except Exception as error:  # noqa: BLE001 - any error of exporter or runtime
                logging.getLogger(__name__).info("no fused attention: %s", error)
            else:
                return "fused"
    for file in path.parent.iterdir():
        file.unlink()
    try:
        _trace(wrapped, path, probe)
    except Exception as error:
        raise ConfigError(
            f"{type(loaded).__name__} cannot be written as ONNX: {' '.join(str(error).split())[:400]}",
            hint="Use it with torch instead: --set embed.kind=transformers.",
        ) from error
    return "traced"


def _trace(wrapped: Any, path: Path, probe: Probe) -> None:
    torch: Any = require("torch", extra=EXTRA, used_for=USED_FOR)
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            wrapped,
            (torch.from_numpy(probe.ids), torch.from_numpy(probe.mask)),
            input_names=["input_ids", "attention_mask"],
            output_names=[probe.output],
            dynamic_shapes={"input_ids": dynamic, "attention_mask": dynamic},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    size = sum(parameter.numel() * parameter.element_size() for parameter in wrapped.parameters())
    program.save(str(path), external_data=size > _LARGE)


@contextlib.contextmanager
def _fused_attention(encoder: Any) -> Generator[bool]:
    """Context in which an encoder exports attention as one node; yields whether it supports that."""
    torch: Any = require("torch", extra=EXTRA, used_for=USED_FOR)
    transformers: Any = require("transformers", extra=EXTRA, used_for=USED_FOR)
    masking: Any = importlib.import_module("transformers.masking_utils")

    def attention(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **options: Any
    ) -> tuple[Any, None]:
        if query.shape[1] != key.shape[1] or options.get("softcap") is not None or options.get("s_aux") is not None:
            raise NotImplementedError("attention of another form")
        batch, heads, tokens, width = query.shape

        def rows(states: Any) -> Any:
            return states.transpose(1, 2).reshape(batch, tokens, heads * width)

        output = torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (rows(query), rows(key), rows(value), None, None, attention_mask),
            {"num_heads": int(heads), "scale": float(width**-0.5 if scaling is None else scaling)},
            dtype=query.dtype,
            shape=(batch, tokens, heads * width),
            version=1,
        )
        return output.reshape(batch, tokens, heads, width), None

    transformers.AttentionInterface.register(_ATTENTION, attention)
    masking.AttentionMaskInterface.register(_ATTENTION, masking.eager_mask)
    previous = encoder.config._attn_implementation
    try:
        encoder.set_attn_implementation(_ATTENTION)
        supported = encoder.config._attn_implementation == _ATTENTION
    except Exception:  # noqa: BLE001 - a model with custom attention
        supported = False
    try:
        yield supported
    finally:
        with contextlib.suppress(Exception):
            encoder.set_attn_implementation(previous)


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Suppress warnings and log messages of the exporter and transformers."""
    names = ("torch.onnx", "torch.export", "transformers", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
