"""Choose the ONNX file of a model folder, and determine what follows the graph to get a vector of each text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentscale.embedders.onnx_header import OnnxHeader, Value, read_header
from latentscale.embedders.onnx_session import check_data_files
from latentscale.embedders.sentence_folder import SentenceFolder
from latentscale.errors import ConfigError, name_list

Precision = Literal["fp32", "int8"]
GRAPHS: dict[Precision, tuple[str, ...]] = {
    "fp32": ("onnx/model.onnx", "model.onnx"),
    "int8": ("onnx/model_int8.onnx", "model_int8.onnx", "onnx/model_quantized.onnx", "model_quantized.onnx"),
}
"""Usual files of a graph, tried in order unless ``options.file`` names one."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_DESCRIPTIONS = ("*.json", "*.txt", "*.model", "README.md", "*_Dense/*.safetensors", "*_LayerNorm/*.safetensors")
_VECTORS, _STATES = ("sentence_embedding",), ("last_hidden_state", "token_embeddings")
_EXPORT = "latentscale models export MODEL --out FOLDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A graph, and how vectors are derived from its output.

    Attributes
    ----------
    path : Path
        The ONNX file.
    files : tuple of Path
        The ONNX file and the files with its weights.
    header : OnnxHeader
    output : str
        Name of the output that is used.
    pooling : tuple of str
        How token states are pooled; empty if the graph outputs vectors of texts.
    dimensions : int
        Width of the vectors.
    """

    path: Path
    files: tuple[Path, ...]
    header: OnnxHeader
    output: str
    pooling: tuple[str, ...]
    dimensions: int


def required_files(precision: Precision, file: str | None) -> tuple[str, ...]:
    """Return glob patterns of the repository files needed for a graph of this precision."""
    graphs = GRAPHS[precision] if file is None else (file,)
    return (*_DESCRIPTIONS, *(f"{name}{suffix}" for name in graphs for suffix in ("", "_data", ".data")))


def list_graphs(folder: Path) -> list[str]:
    """List the ONNX files of a folder, relative to it."""
    paths = [*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")]
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def choose_file(folder: Path, precision: Precision, file: str | None = None) -> str:
    """Return the ONNX file to use, relative to the folder.

    Raises
    ------
    ConfigError
        If there is none of that precision; the message names those that exist.
    """
    names = GRAPHS[precision] if file is None else (file,)
    for name in names:
        if (folder / name).is_file():
            return name
    existing = list_graphs(folder)
    if not existing:
        raise ConfigError(
            f"{folder} has no ONNX file",
            where="embed.model",
            hint=f"Write one: {_EXPORT}, and use that folder; or compute with torch: --set embed.kind=transformers.",
        )
    if file is not None:
        raise ConfigError(
            f"{folder} has no {file}; it has {name_list(existing)}",
            where="embed.options.file",
            hint="Name one of these, relative to the folder.",
        )
    raise ConfigError(
        f"{folder} has no ONNX file of {precision} under the usual names ({', '.join(names)}); it has "
        f"{name_list(existing)}",
        where="embed.options.precision",
        hint="Name the file: --set embed.options.file=FILE"
        + (f"; or write one: {_EXPORT} --int8." if precision == "int8" else "."),
    )


def read_graph(
    folder: Path,
    file: str,
    sentence: SentenceFolder,
    *,
    precision: Precision,
    pooling: str | None = None,
    prompt: str = "",
) -> Graph:
    """Read inputs and outputs of a graph, and compare them with its folder's description; no weights are read.

    Parameters
    ----------
    file : str
        Relative to ``folder``.
    pooling : str, optional
        Overrides the folder's pooling, for a graph that outputs token states.
    prompt : str
        Prefix of each text.

    Raises
    ------
    ConfigError
        If the file is damaged, lacks its weights or has another precision, if its inputs or outputs are unsupported, or
        if its width differs from the folder's description.
    """
    path = folder / file
    header = read_header(path)
    check_data_files(path, header)
    if header.quantised != (precision == "int8"):
        actual = "quantised" if header.quantised else "not quantised"
        raise ConfigError(
            f"embed.options.precision is {precision}, and {path} is {actual}",
            where="embed.options.precision",
            hint=f"Set embed.options.precision={'int8' if header.quantised else 'fp32'}, or name another file.",
        )
    _check_inputs(path, header.inputs)
    vectors = header.output(*_VECTORS)
    states = header.output(*_STATES) or _only_states(header.outputs)
    # A prompt that must be excluded from the pooling requires pooling outside the graph.
    pooled_in_graph = (
        vectors is not None and pooling is None and (sentence.include_prompt or not prompt or states is None)
    )
    output = vectors if pooled_in_graph else states
    if output is None:
        raise ConfigError(
            f"{path} has the outputs {_describe(header.outputs)}; known are {', '.join(_VECTORS + _STATES)}"
            + (", and embed.options.pooling needs the states of tokens" if vectors is not None else ""),
            where="embed.model",
            hint="Leave embed.options.pooling out." if vectors is not None else f"Write it again: {_EXPORT}.",
        )
    if pooled_in_graph and not sentence.include_prompt and prompt:
        raise ConfigError(
            f"{path} pools the tokens of a prompt too, which this model leaves out",
            where="embed.options.document_prompt",
            hint="Use a graph with the output last_hidden_state, or no prompt: --set embed.options.document_prompt=''.",
        )
    _check_output(path, output, rank=2 if pooled_in_graph else 3)
    modes = () if pooled_in_graph else _modes(sentence, pooling)
    width = sentence.dimensions if pooled_in_graph or modes == sentence.pooling else sentence.hidden
    width_in_graph = output.shape[-1] if output.shape else None
    expected = sentence.dimensions if pooled_in_graph else sentence.hidden
    if width_in_graph is not None and width_in_graph != expected:
        raise ConfigError(
            f"{path} gives vectors of {width_in_graph:,} values, and its folder describes a model of {expected:,}",
            where="embed.model",
            hint="The graph and the other files are of different models: download or export both again.",
        )
    data_files = tuple(path.parent / name for name in header.data_files)
    return Graph(
        path=path, files=(path, *data_files), header=header, output=output.name, pooling=modes, dimensions=width
    )


def _modes(sentence: SentenceFolder, pooling: str | None) -> tuple[str, ...]:
    if pooling is not None:
        return (pooling,)
    if not sentence.pooling:
        raise ConfigError(
            f"{sentence.path.name} does not say how the vectors of tokens become that of a text",
            where="embed.options.pooling",
            hint="Its model card does: --set embed.options.pooling=mean, or cls, or lasttoken.",
        )
    return sentence.pooling


def _check_inputs(path: Path, inputs: Sequence[Value]) -> None:
    names = [value.name for value in inputs]
    unknown = [name for name in names if name not in INPUTS]
    missing = [name for name in INPUTS[:2] if name not in names]
    if unknown or missing:
        problem = f"needs the input {unknown[0]!r}" if unknown else f"has no input {missing[0]!r}"
        raise ConfigError(
            f"{path} {problem}; known are {', '.join(INPUTS)}, and it has {_describe(inputs)}",
            where="embed.model",
            hint=f"Write the encoder of text alone: {_EXPORT}.",
        )
    for value in inputs:
        if value.type not in ("int64", "int32") or (value.shape is not None and len(value.shape) != 2):
            raise ConfigError(
                f"{path} takes {_describe([value])}, not whole numbers for texts and their tokens",
                where="embed.model",
                hint=f"Write it again: {_EXPORT}.",
            )
        if value.shape is not None and value.shape[0] is not None:
            raise ConfigError(
                f"{path} takes batches of exactly {value.shape[0]}: {_describe([value])}",
                where="embed.model",
                hint=f"Write it again with dimensions that vary: {_EXPORT}.",
            )


def _check_output(path: Path, output: Value, *, rank: int) -> None:
    if output.type != "float32":
        raise ConfigError(
            f"{path} gives {_describe([output])}, not float32",
            where="embed.model",
            hint="Use the file of the same model in fp32, or write one: " + _EXPORT + ".",
        )
    if output.shape is not None and len(output.shape) != rank:
        raise ConfigError(
            f"{path} gives {_describe([output])}, which should have {rank} dimensions",
            where="embed.model",
            hint=f"Write it again: {_EXPORT}.",
        )


def _only_states(outputs: Sequence[Value]) -> Value | None:
    """Return the only output with three dimensions, which must be the token states, whatever its name."""
    candidates = [output for output in outputs if output.shape is not None and len(output.shape) == 3]
    return candidates[0] if len(candidates) == 1 else None


def _describe(values: Sequence[Value]) -> str:
    def shape(value: Value) -> str:
        if value.shape is None:
            return ""
        return "[" + ", ".join("?" if size is None else str(size) for size in value.shape) + "]"

    return name_list([f"{value.name}: {value.type}{shape(value)}" for value in values]) or "none"
