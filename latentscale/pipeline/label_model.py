"""A service that names clusters, as a run sees it: asked once before anything is computed."""

from __future__ import annotations

from latentscale.errors import EnvironmentFailure
from latentscale.labelers import labeler_class
from latentscale.labelers.model import asks_a_model
from latentscale.pipeline.context import RunContext


def probe_labeler(context: RunContext) -> None:
    """Ask the labeler for one label, where it is a service: a wrong key or model is found before the hours of a run.

    Raises
    ------
    ConfigError
        If the address, the model, the key or an option is wrong.
    EnvironmentFailure
        If it does not answer this machine, which is also where it will be asked.
    """
    config = context.config.label
    kind = labeler_class(config.method)
    if not asks_a_model(kind):
        return
    try:
        context.observer.note(kind.probe(config))
    except EnvironmentFailure as error:
        if context.config.engine.name == "local":
            raise
        # The driver of a cluster may be a laptop that does not reach what the nodes do.
        context.observer.note(f"labels are left to the workers, the service cannot be asked from here: {error.message}")
