"""What labelers share whose chat model runs in the job: identity, terms, quote, and what is checked before a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from latentscale.config import LabelConfig, StageResources
from latentscale.errors import MissingPackageError
from latentscale.labelers.chat import WHERE, ChatLabeler, read_options
from latentscale.labelers.chat.labeler import asked_identity, tests_held_out
from latentscale.labelers.chat.quote import estimated_prompts, estimated_usage
from latentscale.labelers.local.folder import find_chat_model, weights_folder
from latentscale.labelers.local.options import TRANSPORT, LocalOptions
from latentscale.labelers.model import Quote
from latentscale.machine import Place
from latentscale.services.terms import ServiceTerms, Spending

_EXAMPLE = "For instance --set label.options.model=Qwen/Qwen3-4B-Instruct-2507, or the folder of a chat model."


class LocalLabeler(ChatLabeler):
    """Base of labelers by a model of the job; see :class:`latentscale.labelers.model.JobLabeler`.

    Attributes
    ----------
    settings : type of LocalOptions
    packages : dict of str to tuple of str
        Modules that it needs where it runs, each with the distributions that have it.
    extra : str
        Extra of this package that installs them.
    """

    transport: ClassVar[frozenset[str]] = TRANSPORT
    runs_in_the_job: ClassVar[bool] = True
    starts_workers: ClassVar[bool] = False
    settings: ClassVar[type[LocalOptions]] = LocalOptions
    packages: ClassVar[Mapping[str, tuple[str, ...]]]
    extra: ClassVar[str]

    @classmethod
    def options(cls, config: LabelConfig) -> Any:
        """``label.options`` as the labeler's settings.

        Raises
        ------
        ConfigError
            Naming the first that does not exist or cannot be.
        """
        return read_options(config, cls.settings, example=_EXAMPLE)

    @classmethod
    def check(cls, config: LabelConfig) -> Mapping[str, Any]:
        """The identity: prompts, the model's commit or bytes, and what is asked of it."""
        options = cls.options(config)
        model = find_chat_model(options)
        return {
            "version": 1,
            **model.identity(),
            "precision": options.precision,
            "max_model_len": model.context,
            **asked_identity(options),
        }

    @classmethod
    def resources(cls) -> StageResources:
        """A GPU where there is any."""
        return StageResources(gpus="auto")

    @classmethod
    def check_place(cls, place: Place) -> None:
        """Refuse a place without the packages that it needs."""
        absent = [
            name for name, known in cls.packages.items() if not any(package in place.packages for package in known)
        ]
        if absent:
            raise MissingPackageError(
                f"label.method={cls.name} needs {' and '.join(absent)}, not installed on {place.name}",
                where="label.method",
                hint=f"pip install 'latentscale[{cls.extra}]'. On a Ray cluster labels may have an environment or "
                "an image of their own: engine.resources.label.",
            )

    @classmethod
    def settled(cls, config: LabelConfig) -> Mapping[str, Any]:
        """The options with the commit of a model of the hub, or the whole path of a folder: workers start elsewhere."""
        found = find_chat_model(cls.options(config))
        return dict(config.options) | ({"revision": found.revision} if found.revision else {"model": str(found.path)})

    @classmethod
    def terms(cls, config: LabelConfig) -> ServiceTerms:
        """It costs nothing; its tokens are counted."""
        return ServiceTerms(service="language model", settings=WHERE)

    @classmethod
    def tests_held_out(cls, config: LabelConfig) -> bool:
        """By default where labels are in the language of the documents."""
        return tests_held_out(cls.options(config))

    @classmethod
    def quote(cls, config: LabelConfig, layers: Sequence[int]) -> Quote:
        """Prompts and tokens; how long they take depends on the machine."""
        prompts = estimated_prompts(layers)
        usage = estimated_usage(cls.options(config), prompts, exemplars=config.exemplars)
        return Quote(clusters=sum(layers), prompts=prompts, usage=usage, cost=None, minutes=None)

    @classmethod
    def probe(cls, config: LabelConfig, spending: Spending | None = None) -> str:
        """Bring the weights onto this machine, before the hours of a run."""
        options = cls.options(config)
        model = find_chat_model(options)
        weights_folder(options)
        return f"labels by {model.title} in {cls.name}, {model.context:,} tokens at a time"
