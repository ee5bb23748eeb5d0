"""vLLM in the stage's process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Self

from latentscale.errors import ResourceError, require
from latentscale.labelers.chat import Question, Reply
from latentscale.labelers.chat.answers import last_json_object
from latentscale.labelers.local import ChatModel, PromptTokens
from latentscale.labelers.local.folder import weights_folder
from latentscale.labelers.local.schema import schema_text
from latentscale.labelers.local.tokens import load_chat_tokenizer
from latentscale.labelers.protocol import NoLabel
from latentscale.labelers.vllm.options import VllmLabelOptions, engine_settings
from latentscale.services.failures import StoppedError
from latentscale.services.terms import Spending

USED_FOR = "label.method=vllm"
HINT = (
    "If another program uses the GPU's memory, lower label.options.gpu_memory_share; where the model needs more "
    "than one GPU has, raise tensor_parallel_size or lower max_model_len; or use a smaller model."
)


class OfflineChat:
    """A chat model in a vLLM engine; see :class:`latentscale.labelers.chat.Chat`.

    Parameters
    ----------
    engine : vllm.LLM
    prompts : PromptTokens
    options : VllmLabelOptions
    notes : list of str
    """

    concurrency = 1

    def __init__(self, engine: Any, prompts: PromptTokens, options: VllmLabelOptions, notes: list[str]) -> None:
        self.notes = notes
        self._engine: Any = engine
        self._prompts = prompts
        self._options = options
        self._spending: Spending | None = None
        self._stop = threading.Event()

    @property
    def batch(self) -> int:
        """Questions per call; vLLM batches them itself."""
        return self._options.batch

    @classmethod
    def start(cls, options: VllmLabelOptions, model: ChatModel) -> Self:
        """Start the engine.

        Raises
        ------
        MissingPackageError
            If vLLM is not installed.
        ResourceError
            If it cannot start.
        """
        vllm: Any = require("vllm", extra="vllm", used_for=USED_FOR)
        path = weights_folder(options)
        notes: list[str] = []
        prompts = PromptTokens(
            load_chat_tokenizer(path, extra="vllm", used_for=USED_FOR), model.context, options, notes.append
        )
        try:
            engine = vllm.LLM(
                model=str(path),
                tensor_parallel_size=options.tensor_parallel_size or 1,
                disable_log_stats=True,
                **engine_settings(options, model.context),
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ResourceError(
                f"vLLM cannot start {model.title}: {' '.join(str(error).split())[:400]}", hint=HINT
            ) from error
        notes.append(f"Labels were written by {model.title} in vLLM {vllm.__version__}.")
        return cls(engine, prompts, options, notes)

    def ask(self, system: str, questions: Sequence[Question]) -> Iterator[tuple[int, Reply | NoLabel]]:
        """Ask all questions in one call; yields (position, reply).

        Raises
        ------
        StoppedError
            If ``stop`` was called.
        ResourceError
            If the engine died.
        """
        fitted, unfitted = self._prompts.fit_all(system, questions)
        yield from unfitted
        if self._stop.is_set():
            raise StoppedError
        if not fitted:
            return
        sampling: Any = require("vllm.sampling_params", extra="vllm", used_for=USED_FOR)
        sampling_params = [
            sampling.SamplingParams(
                temperature=0.0,
                max_tokens=question.output,
                structured_outputs=sampling.StructuredOutputsParams(json=json.loads(schema_text(questions[index]))),
            )
            for index, question in fitted.items()
        ]
        prompts = [{"prompt_token_ids": question.tokens} for question in fitted.values()]
        try:
            outputs = self._engine.generate(prompts, sampling_params, use_tqdm=False)
        except RuntimeError as error:
            raise ResourceError(
                f"vLLM failed while it wrote labels: {' '.join(str(error).split())[:400]}",
                hint=f"Run the same command again: what was answered is kept. {HINT}",
            ) from error
        for (index, question), output in zip(fitted.items(), outputs, strict=True):
            generated = output.outputs[0]
            count(self._spending, len(question.tokens), len(generated.token_ids))
            yield (
                index,
                Reply(
                    values=last_json_object(generated.text),
                    text=generated.text,
                    cut=generated.finish_reason == "length",
                ),
            )

    def count_with(self, spending: Spending) -> None:
        """Record the tokens of all further questions in ``spending``."""
        self._spending = spending

    def stop(self) -> None:
        """Ask no further questions; called from another thread."""
        self._stop.set()

    def close(self) -> None:
        """Stop the engine's process, to free its memory."""
        engine, self._engine = self._engine, None
        shutdown = getattr(getattr(getattr(engine, "llm_engine", None), "engine_core", None), "shutdown", None)
        if shutdown is not None:
            shutdown()


def count(spending: Spending | None, tokens: int, output: int) -> None:
    """Count the tokens of a question and its answer."""
    if spending is not None:
        spending.settle(spending.reserve(tokens, output), tokens, output)
