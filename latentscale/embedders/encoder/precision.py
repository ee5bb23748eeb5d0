"""Choose the precision of an encoder from the names of GPUs, without importing torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from latentscale.machine import Gpu

Precision = Literal["bf16", "fp16", "fp32"]
PrecisionSetting = Literal["auto", "bf16", "fp16", "fp32"]

# GPUs before Ampere do not support bfloat16: torch emulates it, slower than float32.
_WITHOUT_BF16 = re.compile(r"\b([KMP]\d+|V100\w*|T\d+G?|GTX|RTX 20\d\d|RTX [3-8]000|TITAN|MX\d+)\b", re.IGNORECASE)
_WITH_BF16 = re.compile(r"\b(Ada|Blackwell|RTX A\d+)\b", re.IGNORECASE)
BF16_CAPABILITY = (8, 0)


def resolve_precision(asked: PrecisionSetting, gpus: Sequence[Gpu]) -> Precision:
    """Resolve ``auto``: float32 on CPUs, and bfloat16 if every GPU supports it, since it has the range of float32.

    Float16 is never chosen automatically: it overflows above 65,504, which some encoders reach.
    """
    if asked != "auto":
        return asked
    return "bf16" if gpus and all(has_bf16(gpu.name) for gpu in gpus) else "fp32"


def has_bf16(name: str) -> bool:
    """Whether a GPU of this name supports bfloat16: all since Ampere (2020) do."""
    return _WITH_BF16.search(name) is not None or _WITHOUT_BF16.search(name) is None
