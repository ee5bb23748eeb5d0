"""``label.options`` as the settings of a labeler."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from latentscale.config import LabelConfig, Settings
from latentscale.errors import ConfigError

WHERE = "label.options"
Options = TypeVar("Options", bound=Settings)


def read_options(config: LabelConfig, model: type[Options], *, example: str = "") -> Options:
    """``label.options`` as the settings of a labeler.

    Parameters
    ----------
    example : str
        For a labeler that needs a model, and options that name none: how to name one.

    Raises
    ------
    ConfigError
        Naming the first that does not exist or cannot be.
    """
    try:
        return model.model_validate(dict(config.options))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        # A name that is missing may be there, misspelt.
        first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
        key = ".".join([WHERE, *map(str, first["loc"])])
        if first["type"] == "missing":
            raise ConfigError(
                f"the labeler {config.method!r} needs the name of a model", where=key, hint=example
            ) from None
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{key}: {message}", hint=f"Known here: {', '.join(model.model_fields)}.") from None
