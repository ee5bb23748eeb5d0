"""Checks of the labeler's language model before a run computes anything."""

from __future__ import annotations

from latentscale.errors import ConfigError, EnvironmentFailure
from latentscale.labelers import labeler_class
from latentscale.labelers.model import asks_a_model, runs_in_the_job
from latentscale.pipeline.context import RunContext


def check_labeler(context: RunContext) -> None:
    """Check that a model that is to run on this machine can run here, before anything is read.

    Raises
    ------
    ConfigError
        If several replicas are requested, which need a cluster.
    MissingPackageError
        With the command that installs the missing package.
    ResourceError
        If the model needs a GPU.
    """
    config = context.config.label
    kind = labeler_class(config.method)
    if not runs_in_the_job(kind) or context.config.engine.name != "local":
        return
    if config.options.get("replicas", 1) != 1:
        raise ConfigError(
            "replicas of a model need a cluster, and engine.name is local",
            where="label.options.replicas",
            hint="Leave it out, or run with --engine ray.",
        )
    kind.check_place(context.place("label"))


def probe_labeler(context: RunContext) -> None:
    """Send a test request to the labeler, so that a wrong key or model fails before hours of computation.

    Raises
    ------
    ConfigError
        If the address, the model, the key or an option is wrong.
    MissingPackageError
        If the model is to run in workers that lack a package.
    ResourceError
        If vLLM is to run there without a GPU.
    EnvironmentFailure
        If a service does not respond, and this machine is also where the labels will be requested.
    """
    config = context.config.label
    kind = labeler_class(config.method)
    if not asks_a_model(kind):
        return
    local = context.config.engine.name == "local"
    if runs_in_the_job(kind):
        kind.check_place(context.place("label"))
        if not local:
            # The weights are downloaded by the workers: the driver may be a laptop.
            return
    try:
        context.observer.note(kind.probe(config))
    except EnvironmentFailure as error:
        if local:
            raise
        # The driver of a cluster may be a laptop without access to services that the nodes can reach.
        context.observer.note(f"labels are left to the workers, the service cannot be asked from here: {error.message}")
