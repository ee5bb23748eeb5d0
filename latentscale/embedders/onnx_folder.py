"""Which file of a model's folder is its graph, and what follows the graph to make the vector of a text."""

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
"""Where a graph is, the first that is there, unless ``options.file`` names one."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_DESCRIPTIONS = ("*.json", "*.txt", "*.model", "README.md", "*_Dense/*.safetensors", "*_LayerNorm/*.safetensors")
_VECTORS, _STATES = ("sentence_embedding",), ("last_hidden_state", "token_embeddings")
_EXPORT = "latentscale models export MODEL --out FOLDER"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A graph, and how vectors come out of it.

    Attributes
    ----------
    path : Path
        The ONNX file.
    files : tuple of Path
        It and the files with its weights.
    header : OnnxHeader
    output : str
        The output that is used.
    pooling : tuple of str
        How the states of tokens become a vector; empty where the graph gives vectors of texts.
    dimensions : int
        Width of the vectors.
    """

    path: Path
    files: tuple[Path, ...]
    header: OnnxHeader
    output: str
    pooling: tuple[str, ...]
    dimensions: int


def wanted_files(precision: Precision, file: str | None) -> tuple[str, ...]:
    """Patterns of the files of a repository that a graph of this precision needs."""
    graphs = GRAPHS[precision] if file is None else (file,)
    return (*_DESCRIPTIONS, *(f"{name}{ending}" for name in graphs for ending in ("", "_data", ".data")))


def graphs_in(folder: Path) -> list[str]:
    """The ONNX files of a folder, relative to it."""
    found = [*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def choose_file(folder: Path, precision: Precision, file: str | None = None) -> str:
    """The graph of a folder, relative to it.

    Raises
    ------
    ConfigError
        If there is none of that precision, naming those that there are.
    """
    names = GRAPHS[precision] if file is None else (file,)
    for name in names:
        if (folder / name).is_file():
            return name
    there = graphs_in(folder)
    if not there:
        raise ConfigError(
            f"{folder} has no ONNX file",
            where="embed.model",
            hint=f"Write one: {_EXPORT}, and use that folder; or compute with torch: --set embed.kind=transformers.",
        )
    if file is not None:
        raise ConfigError(
            f"{folder} has no {file}; it has {name_list(there)}",
            where="embed.options.file",
            hint="Name one of these, relative to the folder.",
        )
    raise ConfigError(
        f"{folder} has no ONNX file of {precision} under the usual names ({', '.join(names)}); it has "
        f"{name_list(there)}",
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
    """Read what a graph takes and gives, and compare it with what its folder says; no weight is read.

    Parameters
    ----------
    file : str
        Relative to ``folder``.
    pooling : str, optional
        In place of what the folder says, for a graph that gives the states of tokens.
    prompt : str
        Before each text.

    Raises
    ------
    ConfigError
        If the file is damaged, lacks its weights, has another precision, takes or gives something else than is known
        here, or is wider or narrower than the folder says.
    """
    path = folder / file
    header = read_header(path)
    check_data_files(path, header)
    if header.quantised != (precision == "int8"):
        found = "quantised" if header.quantised else "not quantised"
        raise ConfigError(
            f"embed.options.precision is {precision}, and {path} is {found}",
            where="embed.options.precision",
            hint=f"Set embed.options.precision={'int8' if header.quantised else 'fp32'}, or name another file.",
        )
    _check_inputs(path, header.inputs)
    vectors = header.output(*_VECTORS)
    states = header.output(*_STATES) or _only_states(header.outputs)
    # A prompt that does not count must be left out of the pooling, which only we can do.
    inside = vectors is not None and pooling is None and (sentence.include_prompt or not prompt or states is None)
    output = vectors if inside else states
    if output is None:
        raise ConfigError(
            f"{path} has the outputs {_described(header.outputs)}; known are {', '.join(_VECTORS + _STATES)}"
            + (", and embed.options.pooling needs the states of tokens" if vectors is not None else ""),
            where="embed.model",
            hint="Leave embed.options.pooling out." if vectors is not None else f"Write it again: {_EXPORT}.",
        )
    if inside and not sentence.include_prompt and prompt:
        raise ConfigError(
            f"{path} pools the tokens of a prompt too, which this model leaves out",
            where="embed.options.document_prompt",
            hint="Use a graph with the output last_hidden_state, or no prompt: --set embed.options.document_prompt=''.",
        )
    _check_output(path, output, rank=2 if inside else 3)
    modes = () if inside else _modes(sentence, pooling)
    width = sentence.dimensions if inside or modes == sentence.pooling else sentence.hidden
    said = output.shape[-1] if output.shape else None
    wanted = sentence.dimensions if inside else sentence.hidden
    if said is not None and said != wanted:
        raise ConfigError(
            f"{path} gives vectors of {said:,} values, and its folder describes a model of {wanted:,}",
            where="embed.model",
            hint="The graph and the files beside it are of different models: fetch or export both again.",
        )
    data = tuple(path.parent / name for name in header.data_files)
    return Graph(path=path, files=(path, *data), header=header, output=output.name, pooling=modes, dimensions=width)


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
    names = [one.name for one in inputs]
    unknown = [name for name in names if name not in INPUTS]
    lacking = [name for name in INPUTS[:2] if name not in names]
    if unknown or lacking:
        problem = f"needs the input {unknown[0]!r}" if unknown else f"has no input {lacking[0]!r}"
        raise ConfigError(
            f"{path} {problem}; known are {', '.join(INPUTS)}, and it has {_described(inputs)}",
            where="embed.model",
            hint=f"Write the encoder of text alone: {_EXPORT}.",
        )
    for one in inputs:
        if one.type not in ("int64", "int32") or (one.shape is not None and len(one.shape) != 2):
            raise ConfigError(
                f"{path} takes {_described([one])}, not whole numbers for texts and their tokens",
                where="embed.model",
                hint=f"Write it again: {_EXPORT}.",
            )
        if one.shape is not None and one.shape[0] is not None:
            raise ConfigError(
                f"{path} takes batches of exactly {one.shape[0]}: {_described([one])}",
                where="embed.model",
                hint=f"Write it again with dimensions that vary: {_EXPORT}.",
            )


def _check_output(path: Path, output: Value, *, rank: int) -> None:
    if output.type != "float32":
        raise ConfigError(
            f"{path} gives {_described([output])}, not float32",
            where="embed.model",
            hint="Use the file of the same model in fp32, or write one: " + _EXPORT + ".",
        )
    if output.shape is not None and len(output.shape) != rank:
        raise ConfigError(
            f"{path} gives {_described([output])}, which should have {rank} dimensions",
            where="embed.model",
            hint=f"Write it again: {_EXPORT}.",
        )


def _only_states(outputs: Sequence[Value]) -> Value | None:
    """An output of another name that can only be the states of tokens: the one of three dimensions."""
    found = [one for one in outputs if one.shape is not None and len(one.shape) == 3]
    return found[0] if len(found) == 1 else None


def _described(values: Sequence[Value]) -> str:
    def shape(value: Value) -> str:
        if value.shape is None:
            return ""
        return "[" + ", ".join("?" if one is None else str(one) for one in value.shape) + "]"

    return name_list([f"{one.name}: {one.type}{shape(one)}" for one in values]) or "none"
