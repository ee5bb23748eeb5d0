"""Label clusters by a small chat model that torch runs in the stage's process, on a GPU or on CPUs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from latentscale.config import LabelConfig
from latentscale.embedders.encoder.loading import check_device
from latentscale.embedders.encoder.precision import Precision, resolve_precision
from latentscale.errors import ConfigError, require
from latentscale.labelers.chat import WHERE, Question, Reply
from latentscale.labelers.chat.answers import last_json_object
from latentscale.labelers.local import TRANSPORT, Fitted, LocalLabeler, LocalOptions, PromptTokens
from latentscale.labelers.local.folder import find_chat_model, label_setting_errors, weights_folder
from latentscale.labelers.local.tokens import load_chat_tokenizer
from latentscale.labelers.protocol import NoLabel
from latentscale.machine import gpus
from latentscale.services.failures import StoppedError
from latentscale.services.terms import Spending

_USED_FOR = "label.method=transformers"
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# Tokens of prompts and answers of a batch: on CPUs a larger batch only waits for its longest answer.
_BATCH_TOKENS = {"cpu": 16_384, "cuda": 131_072, "mps": 32_768}


class TransformersLabelOptions(LocalOptions):
    """Which chat model labels clusters, and how torch runs it."""

    batch_tokens: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Maximum tokens of the questions and answers in a batch; by default 16,384 on CPUs and 131,072 on a GPU."""


class TransformersLabeler(LocalLabeler):
    """Labels clusters by a chat model in torch; see :class:`latentscale.labelers.model.JobLabeler`."""

    name: ClassVar[str] = "transformers"
    transport: ClassVar[frozenset[str]] = TRANSPORT | {"batch_tokens"}
    settings: ClassVar[type[LocalOptions]] = TransformersLabelOptions
    packages: ClassVar[Mapping[str, tuple[str, ...]]] = {"torch": ("torch",), "transformers": ("transformers",)}
    extra: ClassVar[str] = "torch"

    @classmethod
    def open(cls, config: LabelConfig, device: str) -> Self:
        """Load the model onto the device.

        Raises
        ------
        MissingPackageError
            If torch or transformers is not installed.
        ConfigError
            If the model cannot be loaded.
        """
        options: TransformersLabelOptions = cls.options(config)
        model = find_chat_model(options)
        chat = TorchChat.load(options, device, context=model.context, title=model.title)
        return cls(options, chat, model=model.title)


class TorchChat:
    """A chat model in torch with greedy decoding; see :class:`latentscale.labelers.chat.Chat`.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    tokenizer : transformers.PreTrainedTokenizerBase
    options : TransformersLabelOptions
    device : str
    context : int
        Maximum tokens of a question and its answer together.
    """

    concurrency = 1

    def __init__(
        self, model: Any, tokenizer: Any, options: TransformersLabelOptions, *, device: str, context: int
    ) -> None:
        self.notes: list[str] = []
        self._model: Any = model
        self._tokenizer = tokenizer
        self._options = options
        self._device = device
        self._prompts = PromptTokens(tokenizer, context, options, self.notes.append)
        self._spending: Spending | None = None
        self._stop = threading.Event()
        self._budget = options.batch_tokens or _BATCH_TOKENS[device.partition(":")[0]]
        self._ends = _end_tokens(model, tokenizer)
        self._padding = next(
            (token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id, *self._ends) if token is not None), 0
        )

    @property
    def batch(self) -> int:
        """Number of questions per call."""
        return self._options.batch

    @classmethod
    def load(cls, options: TransformersLabelOptions, device: str, *, context: int, title: str) -> Self:
        """Load weights and tokenizer, only from safetensors and without code of the model's repository."""
        for package in ("torch", "transformers"):
            require(package, extra="torch", used_for=_USED_FOR)
        import torch
        import transformers

        precision: Precision = resolve_precision(options.precision, gpus() if device.startswith("cuda") else ())
        with label_setting_errors():
            check_device(device, precision)
        path = weights_folder(options)
        tokenizer = load_chat_tokenizer(path, extra="torch", used_for=_USED_FOR)
        logging = import_module("transformers.utils.logging")
        logging.disable_progress_bar()
        try:
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                path,
                dtype=getattr(torch, _DTYPES[precision]),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
            )
        except (OSError, ValueError, RuntimeError, TypeError, KeyError, ImportError) as error:
            raise ConfigError(
                f"transformers {transformers.__version__} cannot load {title}: {' '.join(str(error).split())[:400]}",
                where=f"{WHERE}.model",
                hint="Download the model again, or use a version of transformers that supports it.",
            ) from error
        finally:
            logging.enable_progress_bar()
        chat = cls(model.eval().to(device), tokenizer, options, device=device, context=context)
        chat.notes.append(f"Labels were written by {title} in {precision} on {device}, with transformers.")
        return chat

    def ask(self, system: str, questions: Sequence[Question]) -> Iterator[tuple[int, Reply | NoLabel]]:
        """Ask questions in batches of similar length, shortest first; yields (position, reply).

        Raises
        ------
        StoppedError
            If ``stop`` was called.
        """
        fitted, unfitted = self._prompts.fit_all(system, questions)
        yield from unfitted
        remaining = sorted(fitted, key=lambda index: (_size(fitted[index]), index))
        while remaining:
            if self._stop.is_set():
                raise StoppedError
            size = 1
            while size < len(remaining) and _size(fitted[remaining[size]]) * (size + 1) <= self._budget:
                size += 1
            batch, remaining = remaining[:size], remaining[size:]
            replies = self._generate([fitted[index] for index in batch])
            yield from zip(batch, replies, strict=True)

    def count_with(self, spending: Spending) -> None:
        """Record the tokens of all further questions in ``spending``."""
        self._spending = spending

    def stop(self) -> None:
        """Ask no further questions; called from another thread."""
        self._stop.set()

    def close(self) -> None:
        """Free the memory of the model."""
        self._model = None
        if self._device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()

    def _generate(self, batch: Sequence[Fitted]) -> list[Reply | NoLabel]:
        """Generate the replies of a batch, in halves if it exceeds the memory of the GPU."""
        import torch

        try:
            return list(self._replies(batch))
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                reason = f"the memory of {self._device} does not hold a question of {len(batch[0].tokens):,} tokens"
                return [NoLabel(reason=reason, final=False)]
        torch.cuda.empty_cache()
        self._budget = max(1, self._budget // 2)
        half = len(batch) // 2
        return [*self._generate(batch[:half]), *self._generate(batch[half:])]

    def _replies(self, batch: Sequence[Fitted]) -> Iterator[Reply]:
        import torch

        width = max(len(question.tokens) for question in batch)
        # Prompts are padded on the left, as generation continues at the right end.
        ids = torch.full((len(batch), width), self._padding, dtype=torch.long)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, question in enumerate(batch):
            ids[row, width - len(question.tokens) :] = torch.tensor(question.tokens, dtype=torch.long)
            mask[row, width - len(question.tokens) :] = 1
        with torch.inference_mode():
            generated = self._model.generate(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                max_new_tokens=max(question.output for question in batch),
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self._padding,
                eos_token_id=list(self._ends) or None,
            )
        for question, row in zip(batch, generated[:, width:].tolist(), strict=True):
            end = next((position for position, token in enumerate(row) if token in self._ends), len(row))
            answer = row[: min(end, question.output)]
            text = self._tokenizer.decode(answer, skip_special_tokens=True)
            if self._spending is not None:
                reserved = self._spending.reserve(len(question.tokens), len(answer))
                self._spending.settle(reserved, len(question.tokens), len(answer))
            yield Reply(values=last_json_object(text), text=text, cut=end >= question.output)


def _size(question: Fitted) -> int:
    return len(question.tokens) + question.output


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the ids of tokens that end an answer, from the model's generation config and the tokenizer."""
    stated = getattr(model.generation_config, "eos_token_id", None)
    ids = list(stated) if isinstance(stated, list | tuple) else [stated]
    return frozenset(int(token) for token in (*ids, tokenizer.eos_token_id) if token is not None)
