"""Options of embedders and labelers are checked in the same way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from latentscale.config import EmbedConfig, LabelConfig, Settings
from latentscale.embedders.spec import options_of
from latentscale.errors import ConfigError
from latentscale.labelers.options import read_options


class Wanted(Settings):
    model: str
    width: int = 64


def read_embedder_options(options: dict[str, Any]) -> Wanted:
    return options_of(EmbedConfig(options=options), Wanted)


def read_labeler_options(options: dict[str, Any]) -> Wanted:
    return read_options(LabelConfig(options=options), Wanted, example="label.options.model=NAME")


@pytest.mark.parametrize(
    ("read", "where"), [(read_embedder_options, "embed.options"), (read_labeler_options, "label.options")]
)
def test_the_first_invalid_option_is_reported_with_a_hint(read: Callable[[dict[str, Any]], Wanted], where: str) -> None:
    assert read({"model": "a"}) == Wanted(model="a")
    with pytest.raises(ConfigError, match=f"there is no option {where}.modle") as raised:
        read({"modle": "a"})  # which is why the other one is missing
    assert raised.value.hint == "Did you mean 'model'? Known here: model, width."
    with pytest.raises(ConfigError, match="there is no option") as raised:
        read({"model": "a", "price": 1})
    assert raised.value.hint == "Known here: model, width."
    with pytest.raises(ConfigError, match=f"{where}.model: Input should be a valid string") as raised:
        read({"model": 7})
    assert "in quotes" in str(raised.value.hint)
    with pytest.raises(ConfigError, match=f"{where}.width: Input should be a valid integer"):
        read({"model": "a", "width": "wide"})
    with pytest.raises(ConfigError) as raised:
        read({})
    named = "Field required" if read is read_embedder_options else "needs the name of a model"
    assert named in raised.value.message
