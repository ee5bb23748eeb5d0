"""Export a sentence encoder to ONNX: the encoder, its pooling and the layers after it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from latentscale.embedders.encoder.heads import load_head
from latentscale.embedders.encoder.loading import LoadSettings, load_encoder
from latentscale.embedders.encoder.pooling import pool
from latentscale.embedders.encoder.weights import check_weights
from latentscale.embedders.sentence_folder import POOLING, Normalize, SentenceFolder, read_sentence_folder
from latentscale.errors import ConfigError, require
from latentscale.models.export_onnx import USED_FOR, Encoder, export_encoder
from latentscale.models.hub import resolve_model
from latentscale.models.quantise_onnx import EXTRA, Int8Settings

_COPIED = ("*.json", "*.txt", "*.model", "*/*.json", "*/*.txt", "README.md", "LICENSE*", "NOTICE*")
_SKIPPED_FOLDERS = ("onnx", "openvino", ".cache")
# Length of the longest text for which graph and encoder are compared: enough to detect wrong positions, and fast.
_PROBE_TOKENS = 128


def export_model(
    model: str,
    out: str | Path,
    *,
    int8: bool = False,
    revision: str | None = None,
    pooling: str | None = None,
) -> Mapping[str, Any]:
    """Export a sentence encoder to ONNX: see :func:`latentscale.api.export_onnx`."""
    resolved = resolve_model(model, revision=revision, where="the model")
    sentence = read_sentence_folder(resolved.path)
    check_weights(sentence)
    if pooling is not None and pooling not in POOLING:
        raise ConfigError(f"there is no pooling {pooling!r}", hint=f"Known are {', '.join(POOLING)}.")
    modes = sentence.pooling if pooling is None else (pooling,)
    if not modes:
        raise ConfigError(
            f"{resolved.name} does not say how the vectors of tokens become that of a text",
            where="the model",
            hint="Its model card does: --pooling mean, or cls, or lasttoken.",
        )
    # The graph does not know which tokens are those of the prompt, so pooling that excludes them cannot be part of it.
    pooled = sentence.include_prompt
    encoder = Encoder(
        model=resolved,
        folder=sentence.encoder,
        files=_files(resolved.path, sentence, heads=not pooled),
        load=partial(load_encoder, sentence, LoadSettings(device="cpu", precision="fp32", attention="eager")),
        wrapped=partial(_sentence_module, sentence=sentence, modes=modes) if pooled else _states_module,
        output="sentence_embedding" if pooled else "last_hidden_state",
        max_tokens=min(_PROBE_TOKENS, sentence.max_seq_length or _PROBE_TOKENS),
    )
    return export_encoder(encoder, Path(out), int8=Int8Settings() if int8 else None)


def _files(folder: Path, sentence: SentenceFolder, *, heads: bool) -> list[str]:
    """List tokenizer and configuration files, and the weights of layers outside the graph."""
    paths = {path for pattern in _COPIED for path in folder.glob(pattern) if path.is_file()}
    if heads:
        paths |= {head.folder / "model.safetensors" for head in sentence.heads if not isinstance(head, Normalize)}
    relative_paths = (path.relative_to(folder) for path in paths)
    return sorted(
        relative.as_posix()
        for relative in relative_paths
        if relative.parts[0] not in _SKIPPED_FOLDERS and ".index." not in relative.name
    )


def _states_module(encoder: Any) -> Any:
    """Return a module from token ids and mask to the last hidden states."""
    torch: Any = require("torch", extra=EXTRA, used_for=USED_FOR)

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    return States()


def _sentence_module(encoder: Any, *, sentence: SentenceFolder, modes: tuple[str, ...]) -> Any:
    """Return a module from token ids and mask to unit vectors."""
    torch: Any = require("torch", extra=EXTRA, used_for=USED_FOR)
    heads = [load_head(layer, "cpu") for layer in (sentence.heads if modes == sentence.pooling else ())]

    class Sentences(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            vectors = pool(states, attention_mask.sum(1), modes)
            for head in heads:
                vectors = head(vectors)
            return torch.nn.functional.normalize(vectors, p=2, dim=1)

    return Sentences()
