"""Engines run the work of stages: in this process, or on a Ray cluster; the pipeline does not know which."""

from __future__ import annotations

from collections.abc import Callable

from latentscale.config import EngineConfig
from latentscale.engines.choice import chosen_engine
from latentscale.engines.protocol import Engine, Quarantined, ShardWorker

__all__ = ["Engine", "Quarantined", "ShardWorker", "check_engine", "chosen_engine", "open_engine"]


def open_engine(config: EngineConfig, *, on_notice: Callable[[str], None] | None = None) -> Engine:
    """Open the engine that ``config`` names.

    Parameters
    ----------
    config : EngineConfig
    on_notice : callable, optional
        Called with messages for the user, such as that the run waits for resources.

    Raises
    ------
    ResourceError
        If it cannot satisfy the requests of the stages.
    """
    config, _ = chosen_engine(config)
    if config.name == "ray":
        from latentscale.engines.ray.engine import RayEngine

        return RayEngine(config, on_notice=on_notice)
    from latentscale.engines.local import LocalEngine

    return LocalEngine(config, on_notice=on_notice)


def check_engine(config: EngineConfig) -> None:
    """Reject requests that the engine cannot satisfy, before any work and without starting anything.

    Raises
    ------
    ConfigError
        If a runtime environment cannot be read, a variable to pass on is not set, or this process is connected to
        another cluster already.
    MissingPackageError
        If Ray is selected and is not installed.
    ResourceError
        If the cluster does not answer, requires another token or version, or can never satisfy the request of a stage;
        for the local engine, if this machine cannot.
    """
    from latentscale.engines.resources import check_requests

    config, _ = chosen_engine(config)
    if config.name == "ray":
        from latentscale.engines.ray.contact import reach_cluster, refuse_late_environment
        from latentscale.engines.ray.environment import check_environments, read_runtime_env

        check_environments(config)
        runtime_env = read_runtime_env(config)
        contact = reach_cluster(config.address)
        refuse_late_environment(contact, runtime_env)
        if contact.cluster is not None:
            check_requests(config, contact.cluster)
        else:
            # A Ray client cannot query the cluster before it is connected.
            open_engine(config).close()
        return
    from latentscale.engines.local import check_machine

    check_machine(config)
