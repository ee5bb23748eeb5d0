"""What an ONNX file says of itself: opsets, inputs, outputs, kinds of nodes and data files; no weight is read.

The driver plans without onnxruntime and without the weights, and files come from anywhere. So the few fields that
matter are read here from the file's bytes, which are those of a protocol buffer; weights are skipped by their length.
Field numbers are those of ``onnx.proto`` (ONNX IR).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latentscale.errors import ConfigError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
# TensorProto.DataType, of those that a graph of text may take or give.
TYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64", 16: "bfloat16"}
# Nodes that compute with weights of few bits.
QUANTISED = frozenset(
    {
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
        "QLinearMatMul",
        "DequantizeLinear",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An input or output of a graph.

    Attributes
    ----------
    name : str
    type : str
        As NumPy names it, or the number that ONNX gives it.
    shape : tuple of (int or None), or None
        None for a dimension that varies; None as a whole where the file does not say.
    """

    name: str
    type: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxHeader:
    """What an ONNX file says of itself.

    Attributes
    ----------
    opsets : dict of str to int
        Version by domain; the empty one is ONNX's own.
    inputs, outputs : tuple of Value
        Without the weights that older files list among the inputs.
    nodes : frozenset of str
        Kinds of nodes.
    data_files : tuple of str
        Where the weights are that are not in the file, relative to its folder.
    """

    opsets: dict[str, int]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: frozenset[str]
    data_files: tuple[str, ...]

    @property
    def quantised(self) -> bool:
        """Whether it computes with weights of few bits."""
        return not QUANTISED.isdisjoint(self.nodes)

    def output(self, *names: str) -> Value | None:
        """The first output of one of these names."""
        return next((one for name in names for one in self.outputs if one.name == name), None)


def read_header(path: Path, *, where: str = "embed.model") -> OnnxHeader:
    """Read the header of an ONNX file.

    Raises
    ------
    ConfigError
        If the file is not there, is cut, or is no ONNX file.
    """
    try:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            return _model(data)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}", where=where, hint="Check the file and its permissions."
        ) from error
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is no ONNX file, or is damaged: {error}",
            where=where,
            hint="Fetch it again, or export it: latentscale models export MODEL --out FOLDER. A file of a few hundred "
            "bytes is perhaps a pointer of Git LFS.",
        ) from error


def _model(data: memoryview) -> OnnxHeader:
    opsets: dict[str, int] = {}
    graph: memoryview | None = None
    for number, value in _fields(data):
        if number == 7 and isinstance(value, memoryview):
            graph = value
        elif number == 8 and isinstance(value, memoryview):
            domain, version = "", 0
            for inner, held in _fields(value):
                if inner == 1 and isinstance(held, memoryview):
                    domain = _text(held)
                elif inner == 2 and isinstance(held, int):
                    version = held
            opsets["" if domain == "ai.onnx" else domain] = version
    if graph is None or not opsets:
        raise ValueError("it has no graph")
    inputs: list[Value] = []
    outputs: list[Value] = []
    nodes: set[str] = set()
    weights: set[str] = set()
    files: dict[str, None] = {}
    for number, value in _fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            nodes.update(_text(held) for inner, held in _fields(value) if inner == 4 and isinstance(held, memoryview))
        elif number == 5:
            name, file = _tensor(value)
            weights.add(name)
            if file is not None:
                files[file] = None
        elif number == 11:
            inputs.append(_value(value))
        elif number == 12:
            outputs.append(_value(value))
    if not outputs:
        raise ValueError("its graph has no output")
    return OnnxHeader(
        opsets=opsets,
        inputs=tuple(one for one in inputs if one.name not in weights),
        outputs=tuple(outputs),
        nodes=frozenset(nodes),
        data_files=tuple(files),
    )


def _tensor(data: memoryview) -> tuple[str, str | None]:
    """Name of a weight, and the file that holds its values if that is another one."""
    name, file, outside = "", None, False
    for number, value in _fields(data):
        if number == 8 and isinstance(value, memoryview):
            name = _text(value)
        elif number == 14:
            outside = value == 1
        elif number == 13 and isinstance(value, memoryview):
            entry = {inner: _text(held) for inner, held in _fields(value) if isinstance(held, memoryview)}
            if entry.get(1) == "location":
                file = entry.get(2)
    return name, file if outside else None


def _value(data: memoryview) -> Value:
    name, kind, shape = "", "unknown", None
    for number, value in _fields(data):
        if number == 1 and isinstance(value, memoryview):
            name = _text(value)
        elif number == 2 and isinstance(value, memoryview):
            for tensor in (held for inner, held in _fields(value) if inner == 1 and isinstance(held, memoryview)):
                for inner, held in _fields(tensor):
                    if inner == 1 and isinstance(held, int):
                        kind = TYPES.get(held, f"ONNX type {held}")
                    elif inner == 2 and isinstance(held, memoryview):
                        shape = tuple(_dimension(one) for n, one in _fields(held) if n == 1)
    return Value(name=name, type=kind, shape=shape)


def _dimension(data: memoryview | int) -> int | None:
    if isinstance(data, int):
        raise ValueError("a dimension is a bare number")
    return next((value for number, value in _fields(data) if number == 1 and isinstance(value, int)), None)


def _text(data: memoryview) -> str:
    return str(data, "utf-8")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message: number, and a whole number or the bytes."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise ValueError(f"a field of kind {kind} at byte {at}")
        if number == 0 or at + size > end:
            raise ValueError(f"a field ends {at + size - end:,} bytes after what holds it")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits before byte {at}")
