"""Small encoders with random weights, saved by transformers and sentence-transformers themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.embedders.encoder_files import WORDS, word_pieces

WIDTH, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 4, 64, 66
# Weights far larger than those that training starts with: texts get vectors that differ.
SPREAD = 0.35


def encoder(family: str, folder: Path, *, dtype: Any = None) -> None:
    """Save an encoder and its tokenizer."""
    import torch
    import transformers

    torch.manual_seed(3)
    compiled, names = word_pieces() if family in ("bert", "convbert", "t5") else _ends(family), _names(family)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=compiled, model_max_length=POSITIONS - 2, **names)
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    sizes |= {"intermediate_size": INNER, "max_position_embeddings": POSITIONS, "initializer_range": SPREAD}
    config: Any
    if family == "bert":
        config = transformers.BertConfig(**common, **sizes)
    elif family == "roberta":
        config = transformers.RobertaConfig(**common, **sizes, bos_token_id=0, eos_token_id=2)
    elif family == "convbert":
        config = transformers.ConvBertConfig(**common, **sizes, embedding_size=WIDTH)
    elif family == "qwen2":
        config = transformers.Qwen2Config(**common, **sizes, num_key_value_heads=2)
    else:
        config = transformers.T5Config(
            **common, d_model=WIDTH, d_kv=8, d_ff=INNER, num_layers=LAYERS, num_heads=HEADS, initializer_factor=1.0
        )
    model: Any = transformers.AutoModel.from_config(config)
    (model if dtype is None else model.to(dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def sentence_encoder(
    folder: Path,
    *,
    family: str = "bert",
    pooling: str | Sequence[str] = "mean",
    include_prompt: bool = True,
    heads: Sequence[str] = ("Normalize",),
    prompts: dict[str, str] | None = None,
    length: int = 40,
    dtype: Any = None,
) -> Path:
    """Save a whole sentence encoder.

    Parameters
    ----------
    heads : sequence of str
        ``Dense`` (to 12, tanh), ``Linear`` (same width, residual, no activation), ``LayerNorm``, ``Normalize``.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    plain = folder.with_name(f"{folder.name}-encoder")
    encoder(family, plain, dtype=dtype)
    whole: list[Any] = [modules.Transformer(str(plain), max_seq_length=length)]
    width = whole[0].get_embedding_dimension()
    modes = [pooling] if isinstance(pooling, str) else list(pooling)
    whole.append(modules.Pooling(width, modes, include_prompt=include_prompt))
    width *= len(modes)
    torch.manual_seed(5)
    for head in heads:
        if head == "Dense":
            whole.append(modules.Dense(width, 12))
            width = 12
        elif head == "Linear":
            whole.append(modules.Dense(width, width, activation_function=torch.nn.Identity(), use_residual=True))
        elif head == "LayerNorm":
            whole.append(modules.LayerNorm(width))
            torch.nn.init.normal_(whole[-1].norm.weight)
        else:
            whole.append(modules.Normalize())
    SentenceTransformer(modules=whole, prompts=prompts, device="cpu").save(str(folder))
    return folder


def _ends(family: str) -> Any:
    """A tokenizer whose special tokens are those of RoBERTa, or of a decoder: one behind the text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {
        word: place for place, word in enumerate([*special, *WORDS, ":", *"abcdefghijklmnopqrstuvwxyz"]) if word
    }
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(dict.fromkeys(vocabulary))}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    template = "<s> $A </s>" if family == "roberta" else "$A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.add_special_tokens(special)
    return tokenizer


def _names(family: str) -> dict[str, str]:
    if family in ("bert", "convbert", "t5"):
        return {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
