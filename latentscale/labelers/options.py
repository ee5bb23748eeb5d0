"""Parse ``label.options`` as the settings of a labeler."""

from __future__ import annotations

from latentscale.config import LabelConfig
from latentscale.config.options import Options, checked_options

WHERE = "label.options"


def read_options(config: LabelConfig, model: type[Options], *, example: str = "") -> Options:
    """Parse ``label.options`` as the settings of a labeler.

    Parameters
    ----------
    example : str
        Example of how to name a model, for the error message if none is named.

    Raises
    ------
    ConfigError
        With the first unknown or invalid option.
    """
    missing = f"the labeler {config.method!r} needs the name of a model"
    return checked_options(config.options, model, where=WHERE, missing=missing, example=example)
