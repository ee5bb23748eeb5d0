"""Read the header of an ONNX file: opsets, inputs, outputs, operator types and data files; no weights are read.

The driver plans without onnxruntime and without the weights, and files are untrusted. Therefore the few relevant fields
are parsed here from the protocol buffer, skipping weights by their length. Field numbers are those of ``onnx.proto``
(ONNX IR).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latentscale.errors import ConfigError

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
# TensorProto.DataType: the types that inputs and outputs of a text encoder may have.
TYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64", 16: "bfloat16"}
# Operators on quantised weights.
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
        NumPy's name of the dtype, or ``ONNX type N``.
    shape : tuple of (int or None), or None
        None for a dynamic dimension; None instead of the tuple if the file states no shape.
    """

    name: str
    type: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxHeader:
    """Header of an ONNX file.

    Attributes
    ----------
    opsets : dict of str to int
        Version by domain; the empty domain is ONNX's own.
    inputs, outputs : tuple of Value
        Without weights, which older files list among the inputs.
    nodes : frozenset of str
        Operator types.
    data_files : tuple of str
        External data files with weights, relative to its folder.
    """

    opsets: dict[str, int]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: frozenset[str]
    data_files: tuple[str, ...]

    @property
    def quantised(self) -> bool:
        """Whether any operator uses quantised weights."""
        return not QUANTISED.isdisjoint(self.nodes)

    def output(self, *names: str) -> Value | None:
        """Return the first output with one of these names."""
        return next((value for name in names for value in self.outputs if value.name == name), None)


def read_header(path: Path, *, where: str = "embed.model") -> OnnxHeader:
    """Read the header of an ONNX file.

    Raises
    ------
    ConfigError
        If the file is missing, truncated, or not an ONNX file.
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
            f"{path} is not an ONNX file, or is damaged: {error}",
            where=where,
            hint="Fetch it again, or export it: latentscale models export MODEL --out FOLDER. A file of a few hundred "
            "bytes may be a Git LFS pointer.",
        ) from error


def _model(data: memoryview) -> OnnxHeader:
    opsets: dict[str, int] = {}
    graph: memoryview | None = None
    for number, value in _fields(data):
        if number == 7 and isinstance(value, memoryview):
            graph = value
        elif number == 8 and isinstance(value, memoryview):
            domain, version = "", 0
            for key, field in _fields(value):
                if key == 1 and isinstance(field, memoryview):
                    domain = _text(field)
                elif key == 2 and isinstance(field, int):
                    version = field
            opsets["" if domain == "ai.onnx" else domain] = version
    if graph is None or not opsets:
        raise ValueError("it has no graph")
    inputs: list[Value] = []
    outputs: list[Value] = []
    nodes: set[str] = set()
    weights: set[str] = set()
    data_files: dict[str, None] = {}
    for number, value in _fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            nodes.update(_text(field) for key, field in _fields(value) if key == 4 and isinstance(field, memoryview))
        elif number == 5:
            name, file = _tensor(value)
            weights.add(name)
            if file is not None:
                data_files[file] = None
        elif number == 11:
            inputs.append(_value(value))
        elif number == 12:
            outputs.append(_value(value))
    if not outputs:
        raise ValueError("its graph has no output")
    return OnnxHeader(
        opsets=opsets,
        inputs=tuple(value_info for value_info in inputs if value_info.name not in weights),
        outputs=tuple(outputs),
        nodes=frozenset(nodes),
        data_files=tuple(data_files),
    )


def _tensor(data: memoryview) -> tuple[str, str | None]:
    """Return the name of a weight, and its external data file, if any."""
    name, file, external = "", None, False
    for number, value in _fields(data):
        if number == 8 and isinstance(value, memoryview):
            name = _text(value)
        elif number == 14:
            external = value == 1
        elif number == 13 and isinstance(value, memoryview):
            entry = {key: _text(field) for key, field in _fields(value) if isinstance(field, memoryview)}
            if entry.get(1) == "location":
                file = entry.get(2)
    return name, file if external else None


def _value(data: memoryview) -> Value:
    name, kind, shape = "", "unknown", None
    for number, value in _fields(data):
        if number == 1 and isinstance(value, memoryview):
            name = _text(value)
        elif number == 2 and isinstance(value, memoryview):
            for tensor in (field for key, field in _fields(value) if key == 1 and isinstance(field, memoryview)):
                for key, field in _fields(tensor):
                    if key == 1 and isinstance(field, int):
                        kind = TYPES.get(field, f"ONNX type {field}")
                    elif key == 2 and isinstance(field, memoryview):
                        shape = tuple(
                            _dimension(dimension) for key_in_shape, dimension in _fields(field) if key_in_shape == 1
                        )
    return Value(name=name, type=kind, shape=shape)


def _dimension(data: memoryview | int) -> int | None:
    if isinstance(data, int):
        raise ValueError("a dimension is a bare number")
    return next((value for number, value in _fields(data) if number == 1 and isinstance(value, int)), None)


def _text(data: memoryview) -> str:
    return str(data, "utf-8")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield the fields of a message: field number, and an integer or the bytes."""
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
            raise ValueError(f"a field ends {at + size - end:,} bytes after its message")
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
