"""Find and validate the weight files of an encoder before they are loaded, and count its parameters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from latentscale.embedders.model_json import is_mapping, read_object, refusal
from latentscale.embedders.sentence_folder import Dense, LayerNorm, SentenceFolder
from latentscale.errors import ConfigError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_OTHER_FORMATS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of an encoder.

    Raises
    ------
    ConfigError
        If there are none, or one that the index names is missing.
    """
    if (folder / INDEX).is_file():
        weight_map = read_object(folder / INDEX).get("weight_map")
        if not is_mapping(weight_map) or not weight_map:
            raise refusal(folder / INDEX, "names no weights")
        names = sorted({str(name) for name in weight_map.values()})
        outside = [name for name in names if Path(name).name != name]
        if outside:
            raise refusal(folder / INDEX, f"leads out of its folder: {outside[0]!r}")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise refusal(folder, f"lacks {missing[0]}, which {INDEX} names ({len(missing)} of {len(names)} missing)")
        return [folder / name for name in names]
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / "adapter_config.json").is_file():
        raise refusal(folder, "contains an adapter, not a model", "Merge it into its model first, and save that.")
    others = sorted(path.name for pattern in _OTHER_FORMATS for path in folder.glob(pattern))
    raise ConfigError(
        f"{folder} has no {WEIGHTS}" + (f", only {', '.join(others[:4])}" if others else ""),
        where="embed.model",
        hint="Only safetensors are read: the other formats can contain code. Choose a revision that has them, or save "
        "the model again with save_pretrained.",
    )


def check_weights(model: SentenceFolder) -> int:
    """Read the headers of all weight files, and validate the shapes of the heads.

    Returns
    -------
    int
        Number of parameters of the encoder.

    Raises
    ------
    ConfigError
        If a file is missing or damaged, or a shape is wrong; the message names the file.
    """
    parameters = 0
    for path in weight_files(model.encoder):
        parameters += sum(math.prod(shape) for shape in shapes_of(path).values())
    for head in model.heads:
        if isinstance(head, Dense | LayerNorm):
            _check_head(head)
    return parameters


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the arrays in a weight file, by name, and check that the file is complete.

    Raises
    ------
    ConfigError
        If it is damaged.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors has its own exception types
        raise refusal(path, f"cannot be read: {' '.join(str(error).split())[:300]}") from error


def expected_shapes(head: Dense | LayerNorm) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays that a head needs, by name."""
    if isinstance(head, LayerNorm):
        return {"norm.weight": (head.width,), "norm.bias": (head.width,)}
    shapes: dict[str, Any] = {"linear.weight": (head.out_features, head.in_features)}
    if head.bias:
        shapes["linear.bias"] = (head.out_features,)
    if head.residual and head.in_features != head.out_features:
        shapes["residual.weight"] = (head.out_features, head.in_features)
    return shapes


def _check_head(head: Dense | LayerNorm) -> None:
    path = head.folder / WEIGHTS
    if not path.is_file():
        raise refusal(head.folder, f"has no {WEIGHTS}", "Only safetensors are read: save the model again.")
    shapes = shapes_of(path)
    for name, shape in expected_shapes(head).items():
        if shapes.get(name) != shape:
            raise refusal(path, f"has {name} of the shape {shapes.get(name)}, and its settings say {shape}")
