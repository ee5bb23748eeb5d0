"""Tiny chat models that the code of real ones runs: one with random weights, and one that has one answer alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from latentscale.demo import corpus_path

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_model(folder: Path, *, context: int = 2_048, template: str = CHAT, answer: str | None = None) -> Path:
    """Write a model of the Llama family, with a tokenizer trained on the demo corpus; needs torch and transformers.

    Parameters
    ----------
    answer : str, optional
        All that the model ever says, as one token that follows the end of a prompt; by default its weights are random.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    texts = pl.read_parquet(corpus_path(), columns=["text"])["text"].drop_nulls()[:2_000].to_list()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=2_048,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=context
    )
    fast.chat_template = template
    if answer is not None:
        # A vocabulary of a multiple of 64, as that of most models.
        fast.add_tokens([answer, *(f"<filler-{number}>" for number in range(63))])
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    if answer is not None:
        _teach(model, fast.encode("assistant\n")[-1], fast.convert_tokens_to_ids(answer), fast.eos_token_id)
    model.save_pretrained(folder)
    return folder


def _teach(model: Any, last: int, answer: int, end: int) -> None:
    """Let a model say ``answer`` after the token ``last``, and then end: each token alone decides on the next."""
    import torch

    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.normal_()
        model.lm_head.weight.zero_()
        model.lm_head.weight[answer] = model.model.embed_tokens.weight[last]
        model.lm_head.weight[end] = model.model.embed_tokens.weight[answer]
