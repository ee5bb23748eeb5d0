"""``label.options`` as the settings of a labeler."""

from __future__ import annotations

from latentscale.config import LabelConfig
from latentscale.config.options import Options, checked_options

WHERE = "label.options"


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
    missing = f"the labeler {config.method!r} needs the name of a model"
    return checked_options(config.options, model, where=WHERE, missing=missing, example=example)
