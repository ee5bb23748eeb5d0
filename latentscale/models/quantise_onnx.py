"""Dynamic int8 quantisation of a float32 ONNX graph: 8-bit weights, activations quantised at run time."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import ConfigError, require
from latentscale.models.split_outliers import EXTRA, SHARE, split_outliers


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Settings:
    """How a graph is quantised.

    Attributes
    ----------
    per_channel : bool
        One scale per output channel instead of one per layer.
    reduce_range : bool
        Seven-bit weights. CPUs without VNNI add two 8-bit products in 16 bits, which may overflow; with seven bits it
        cannot, so that vectors are the same on every machine.
    outliers : float
        Maximum share of the input channels of a layer that stay in float32.
    """

    per_channel: bool = True
    reduce_range: bool = True
    outliers: float = SHARE


def quantise(
    source: Path, target: Path, settings: Int8Settings, feeds: Sequence[Mapping[str, NDArray[np.int64]]]
) -> None:
    """Write ``source`` with int8 weights to ``target``.

    Parameters
    ----------
    feeds : sequence of mapping
        Inputs of the graph for some texts, without padding, on which activations are measured.

    Raises
    ------
    MissingPackageError
        If onnx or onnxruntime is not installed.
    ConfigError
        If onnxruntime cannot quantise the graph.
    """
    onnx: Any = require("onnx", extra=EXTRA, used_for="quantising a model")
    quantization: Any = require("onnxruntime.quantization", extra=EXTRA, used_for="quantising a model")
    # onnxruntime logs advice as warnings of the root logger.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        model = onnx.load(str(source))
        products = split_outliers(model, feeds, share=settings.outliers)
        quantization.quantize_dynamic(
            model,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=products,
            per_channel=settings.per_channel,
            reduce_range=settings.reduce_range,
            weight_type=quantization.QuantType.QInt8,
        )
    except Exception as error:
        raise ConfigError(
            f"{source.name} cannot be quantised: {' '.join(str(error).split())[:400]}",
            hint="Export without --int8.",
        ) from error
    finally:
        root.setLevel(level)
