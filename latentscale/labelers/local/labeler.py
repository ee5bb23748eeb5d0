"""Base of labelers whose chat model runs in the job: identity, terms, quote, and checks before a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from latentscale.config import LabelConfig, StageResources
from latentscale.errors import MissingPackageError
from latentscale.labelers.chat import WHERE, ChatLabeler, read_options
from latentscale.labelers.chat.labeler import options_identity, tests_held_out
from latentscale.labelers.chat.quote import estimated_prompts, estimated_usage
from latentscale.labelers.local.folder import find_chat_model, weights_folder
from latentscale.labelers.local.options import TRANSPORT, LocalOptions
from latentscale.labelers.model import Quote
from latentscale.machine import Place
from latentscale.services.terms import ServiceTerms, Spending

_EXAMPLE = "For instance --set label.options.model=Qwen/Qwen3-4B-Instruct-2507, or the folder of a chat model."


class LocalLabeler(ChatLabeler):
    """Base of labelers whose model runs in the job; see :class:`latentscale.labelers.model.JobLabeler`.

    Attributes
    ----------
    settings : type of LocalOptions
    packages : dict of str to tuple of str
        Modules required where it runs, each with the distributions that provide it.
    extra : str
        Extra of LatentScale that installs them.
    """

    transport: ClassVar[frozenset[str]] = TRANSPORT
    runs_in_the_job: ClassVar[bool] = True
    starts_workers: ClassVar[bool] = False
    settings: ClassVar[type[LocalOptions]] = LocalOptions
    packages: ClassVar[Mapping[str, tuple[str, ...]]]
    extra: ClassVar[str]

    @classmethod
    def options(cls, config: LabelConfig) -> Any:
        """Parse ``label.options`` of this labeler.

        Raises
        ------
        ConfigError
            The message names the first unknown or invalid option.
        """
        return read_options(config, cls.settings, example=_EXAMPLE)

    @classmethod
    def check(cls, config: LabelConfig) -> Mapping[str, Any]:
        """Return the identity: prompts, the model's commit or bytes, and options."""
        options = cls.options(config)
        model = find_chat_model(options)
        return {
            "version": 1,
            **model.identity(),
            "precision": options.precision,
            "max_model_len": model.context,
            **options_identity(options),
        }

    @classmethod
    def resources(cls) -> StageResources:
        """Return an optional GPU."""
        return StageResources(gpus="auto")

    @classmethod
    def check_place(cls, place: Place) -> None:
        """Reject a place without the required packages."""
        missing = [
            name
            for name, distributions in cls.packages.items()
            if not any(distribution in place.packages for distribution in distributions)
        ]
        if missing:
            raise MissingPackageError(
                f"label.method={cls.name} needs {' and '.join(missing)}, not installed on {place.name}",
                where="label.method",
                hint=f"pip install 'latentscale[{cls.extra}]'. On a Ray cluster labels may have an environment or "
                "an image of their own: engine.resources.label.",
            )

    @classmethod
    def settled(cls, config: LabelConfig) -> Mapping[str, Any]:
        """Return the options with the commit of a hub model, or the absolute path of a folder, for other workers."""
        model = find_chat_model(cls.options(config))
        return dict(config.options) | ({"revision": model.revision} if model.revision else {"model": str(model.path)})

    @classmethod
    def terms(cls, config: LabelConfig) -> ServiceTerms:
        """Return terms without prices; tokens are counted."""
        return ServiceTerms(service="language model", settings=WHERE)

    @classmethod
    def tests_held_out(cls, config: LabelConfig) -> bool:
        """Whether labels are tested on held-out documents; by default if they are in the documents' language."""
        return tests_held_out(cls.options(config))

    @classmethod
    def quote(cls, config: LabelConfig, layers: Sequence[int]) -> Quote:
        """Estimate prompts and tokens; the duration depends on the machine."""
        prompts = estimated_prompts(layers)
        usage = estimated_usage(cls.options(config), prompts, exemplars=config.exemplars)
        return Quote(clusters=sum(layers), prompts=prompts, usage=usage, cost=None, minutes=None)

    @classmethod
    def probe(cls, config: LabelConfig, spending: Spending | None = None) -> str:
        """Download the weights to this machine, before a long run."""
        options = cls.options(config)
        model = find_chat_model(options)
        weights_folder(options)
        return f"labels by {model.title} in {cls.name}, {model.context:,} tokens at a time"
