"""Masks that are made without a look at the device are those of transformers, for every kind of encoder."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

pytestmark = pytest.mark.slow
for package in ("torch", "transformers"):
    pytest.importorskip(package, reason="the masks are those of transformers")

import torch  # noqa: E402 - it may be missing
import transformers  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from transformers import masking_utils  # noqa: E402

from latentscale.embedders.encoder.masks import known_padding, register_masks  # noqa: E402

VOCABULARY, WIDTH = 60, 21
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
POSITIONS = {"max_position_embeddings": 64, "pad_token_id": 1}
DECODER = {"num_key_value_heads": 2, "head_dim": 8}
# Windows that are shorter than the texts, so that layers of both kinds are in each model.
FAMILIES: dict[str, dict[str, Any]] = {
    "albert": SIZES | POSITIONS | {"embedding_size": 16},
    "bert": SIZES | POSITIONS,
    "camembert": SIZES | POSITIONS,
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48} | POSITIONS,
    "electra": SIZES | POSITIONS | {"embedding_size": 16},
    "eurobert": SIZES | POSITIONS | {"num_key_value_heads": 4, "head_dim": 8},
    "gemma3_text": SIZES | POSITIONS | DECODER | {"sliding_window": 5, "use_bidirectional_attention": True},
    "gemma2": SIZES | POSITIONS | DECODER | {"sliding_window": 5},
    "llama": SIZES | POSITIONS | {"num_key_value_heads": 2},
    "mistral": SIZES | POSITIONS | DECODER | {"sliding_window": 5},
    "modernbert": SIZES | POSITIONS | {"local_attention": 6, "global_attn_every_n_layers": 2},
    "mpnet": SIZES | POSITIONS,
    "nomic_bert": SIZES | POSITIONS,
    "qwen2": SIZES | POSITIONS | {"num_key_value_heads": 2},
    "qwen3": SIZES | POSITIONS | DECODER,
    "roberta": SIZES | POSITIONS,
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4, "pad_token_id": 1},
    "xlm-roberta": SIZES | POSITIONS,
}
# MPNet computes its attention itself, and its masks are made as for eager.
CASES = [(family, kind) for family in FAMILIES for kind in ("sdpa", "eager") if (family, kind) != ("mpnet", "sdpa")]


class Looks(TorchDispatchMode):
    """Counts how often the host asks for the value of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero")
        return func(*args, **(kwargs or {}))


def model_of(family: str, attention: str) -> Any:
    torch.manual_seed(3)
    config: Any = transformers.AutoConfig.for_model(family, vocab_size=VOCABULARY, **FAMILIES[family])
    config.use_cache = False
    maker: Any = transformers.T5EncoderModel if family == "t5" else transformers.AutoModel
    make = maker._from_config if family == "t5" else maker.from_config
    model = make(config, attn_implementation=attention)
    for values in model.parameters():
        torch.nn.init.normal_(values, std=0.2)
    return model.eval()


def batch_of(*, padded: bool) -> tuple[Any, Any]:
    torch.manual_seed(5)
    ids = torch.randint(4, VOCABULARY, (4, WIDTH))
    mask = torch.ones_like(ids)
    if padded:
        for row, length in enumerate((WIDTH, WIDTH, 13, 1)):
            ids[row, length:], mask[row, length:] = 1, 0
    return ids, mask


def computed(model: Any, *, padded: bool, told: bool) -> tuple[Any, int]:
    """Vectors of the tokens that are no padding, and how often a tensor was asked."""
    ids, mask = batch_of(padded=padded)
    with torch.inference_mode(), known_padding(padded) if told else nullcontext(), Looks() as looks:
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return hidden[mask.bool()], looks.count


@pytest.fixture(autouse=True)
def telling() -> None:
    """The functions of this process are told, as in a worker."""
    register_masks()


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(("family", "attention"), CASES)
def test_vectors_are_the_same_to_the_bit_and_no_tensor_is_asked(family: str, attention: str, padded: bool) -> None:
    model = model_of(family, attention)
    own, looked = computed(model, padded=padded, told=False)
    told, left = computed(model, padded=padded, told=True)
    assert torch.isfinite(own).all()
    assert torch.equal(told, own)
    assert left == 0
    # Some masks are always made, without a look; those of the models that embed most maps are not.
    if attention == "sdpa" and family in ("bert", "roberta", "xlm-roberta", "modernbert", "qwen3", "t5"):
        assert looked > 0


def test_padding_is_not_attended_to() -> None:
    """The other tests would not see a mask that is left out everywhere."""
    model = model_of("bert", "sdpa")
    ids, mask = batch_of(padded=True)
    with torch.inference_mode():
        with known_padding(True):
            right = model(input_ids=ids, attention_mask=mask).last_hidden_state
        with known_padding(False):
            wrong = model(input_ids=ids, attention_mask=mask).last_hidden_state
        alone = model(input_ids=ids[2:3, :13]).last_hidden_state
    assert torch.allclose(right[2, :13], alone[0], atol=1e-5)
    assert not torch.allclose(wrong[2, :13], alone[0], atol=1e-3)


def test_only_the_thread_that_was_told_knows() -> None:
    model = model_of("bert", "sdpa")
    expected, _ = computed(model, padded=True, told=False)
    found: list[Any] = []
    with known_padding(False):
        thread = threading.Thread(target=lambda: found.append(computed(model, padded=True, told=False)))
        thread.start()
        thread.join()
    assert torch.equal(found[0][0], expected)
    assert found[0][1] > 0
    assert computed(model, padded=True, told=False)[1] > 0


@contextmanager
def registered(name: str, function: Callable[..., Any]) -> Iterator[None]:
    before = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS[name]
    masking_utils.AttentionMaskInterface.register(name, function)
    try:
        yield
    finally:
        masking_utils.AttentionMaskInterface.register(name, before)


def test_what_another_package_registered_is_called_with_what_is_known() -> None:
    seen: list[dict[str, Any]] = []

    def others(**named: Any) -> Any:
        seen.append(named)
        return masking_utils.sdpa_mask(**named)

    with registered("sdpa", others):
        register_masks()
        once = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
        register_masks()
        assert masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is once
        computed(model_of("bert", "sdpa"), padded=True, told=True)
        computed(model_of("bert", "sdpa"), padded=False, told=True)
    assert [one["allow_is_bidirectional_skip"] for one in seen] == [False, True]
    assert [one["attention_mask"] is None for one in seen] == [False, True]


@pytest.mark.parametrize("name", ["sdpa_mask", "eager_mask"])
def test_the_arguments_are_those_of_the_installed_transformers(name: str) -> None:
    accepted = inspect.signature(getattr(masking_utils, name)).parameters
    assert {"attention_mask", "allow_is_bidirectional_skip"} <= set(accepted)
    if name == "sdpa_mask":
        assert "allow_is_causal_skip" in accepted
