"""Replicas of vLLM on a Ray cluster with ``ray.data.llm``: questions are rows, and answers are streamed back."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from latentscale.errors import ResourceError, require
from latentscale.labelers.chat import Question, Reply
from latentscale.labelers.chat.answers import last_json_object
from latentscale.labelers.local import ChatModel, PromptTokens
from latentscale.labelers.local.folder import weights_folder
from latentscale.labelers.local.schema import schema_text
from latentscale.labelers.local.tokens import load_chat_tokenizer
from latentscale.labelers.protocol import NoLabel
from latentscale.labelers.vllm.offline import HINT, USED_FOR, count
from latentscale.labelers.vllm.options import VllmLabelOptions, engine_settings
from latentscale.machine import Replicas
from latentscale.services.failures import StoppedError
from latentscale.services.terms import Spending

# Ray Data starts and stops its workers in each pass over rows, so all questions are asked in one pass.
_UNLIMITED = 1_000_000_000
# Rows per batch; a replica works on several batches at a time.
_BATCH_ROWS = 32
_FORWARDED_VARIABLES = ("HF_", "VLLM_", "TRANSFORMERS_", "DO_NOT_TRACK", "RAY_USAGE_STATS_ENABLED")
_ERROR = "__inference_error__"


class WorkersChat:
    """A chat model in vLLM replicas; see :class:`latentscale.labelers.chat.Chat`.

    Parameters
    ----------
    prompts : PromptTokens
    model : ChatModel
    source : str
        What the replicas load: a hub id, or a folder, which must exist on their nodes.
    options : VllmLabelOptions
    replicas : Replicas
    notes : list of str
    """

    batch = _UNLIMITED
    concurrency = 1

    def __init__(
        self,
        prompts: PromptTokens,
        model: ChatModel,
        source: str,
        options: VllmLabelOptions,
        replicas: Replicas,
        notes: list[str],
    ) -> None:
        self.notes = notes
        self._prompts = prompts
        self._model = model
        self._source = source
        self._options = options
        self._replicas = replicas
        self._spending: Spending | None = None
        self._stop = threading.Event()

    @classmethod
    def prepare(cls, options: VllmLabelOptions, model: ChatModel, replicas: Replicas) -> Self:
        """Load the tokenizer; no replica is started.

        Raises
        ------
        MissingPackageError
            If ``ray.data.llm`` is not installed here.
        """
        require("ray.data.llm", extra="ray", used_for=USED_FOR)
        # Nodes load a hub model by id and commit; only its tokenizer is needed here.
        path = model.path if model.revision is not None else weights_folder(options)
        notes = [f"Labels were written by {model.title} in {options.replicas} replicas of vLLM on Ray."]
        prompts = PromptTokens(
            load_chat_tokenizer(path, extra="vllm", used_for=USED_FOR), model.context, options, notes.append
        )
        source = str(path) if model.revision is None else model.name
        return cls(prompts, model, source, options, replicas, notes)

    def ask(self, system: str, questions: Sequence[Question]) -> Iterator[tuple[int, Reply | NoLabel]]:
        """Ask all questions in one pass; yields (position, reply) as batches finish.

        Raises
        ------
        StoppedError
            If ``stop`` was called.
        ResourceError
            If no replica can start, or they were lost.
        """
        fitted, unfitted = self._prompts.fit_all(system, questions)
        yield from unfitted
        if not fitted:
            return
        rows = [
            {"at": index, "tokens": question.tokens, "output": question.output, "schema": schema_text(questions[index])}
            for index, question in fitted.items()
        ]
        unanswered = set(fitted)
        for row in self._rows(rows):
            index = int(row["at"])
            unanswered.discard(index)
            if row.get(_ERROR):
                reason = f"vLLM gave no answer: {' '.join(str(row[_ERROR]).split())[:300]}"
                yield index, NoLabel(reason=reason, final=False)
                continue
            count(self._spending, len(fitted[index].tokens), int(row["length"]))
            text = str(row["text"])
            yield index, Reply(values=last_json_object(text), text=text, cut=int(row["length"]) >= fitted[index].output)
        for index in sorted(unanswered):
            yield index, NoLabel(reason="vLLM gave no answer", final=False)

    def count_with(self, spending: Spending) -> None:
        """Record the tokens of all further questions in ``spending``."""
        self._spending = spending

    def stop(self) -> None:
        """Ask no further questions; called from another thread."""
        self._stop.set()

    def close(self) -> None:
        """Do nothing: replicas end with the pass that started them."""

    def _rows(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        data: Any = require("ray.data", extra="ray", used_for=USED_FOR)
        llm: Any = require("ray.data.llm", extra="ray", used_for=USED_FOR)
        try:
            processor = llm.build_processor(self._configuration(llm), preprocess=to_request, postprocess=to_answer)
            blocks = max(1, min(len(rows) // _BATCH_ROWS, 10_000))
            dataset = processor(data.from_items([dict(row) for row in rows], override_num_blocks=blocks))
            dataset.context.enable_progress_bars = False
            dataset.context.print_on_execution_start = False
            dataset.context.execution_no_progress_timeout_s = self._replicas.stall_seconds
            for row in dataset.iter_rows():
                if self._stop.is_set():
                    raise StoppedError
                yield row
        except Exception as error:
            if not any(kind.__module__.partition(".")[0] == "ray" for kind in type(error).__mro__):
                raise
            text = " ".join(str(error).split())
            raise ResourceError(
                f"the replicas of vLLM could not start, or were lost: {type(error).__name__}: {text[-400:]}",
                hint=f"Run the same command again: what was answered is kept. {HINT}",
            ) from error

    def _configuration(self, llm: Any) -> Any:
        replicas, options = self._replicas, self._options
        parallel = options.tensor_parallel_size or max(1, int(replicas.gpus))
        settings = engine_settings(options, self._model.context) | {"tensor_parallel_size": parallel}
        if self._model.revision is not None:
            settings |= {"revision": self._model.revision, "tokenizer_revision": self._model.revision}
        share = replicas.gpus / parallel
        # A replica with one GPU needs hardly any CPU; workers of several GPUs need one to start.
        cpus = replicas.cpus if replicas.cpus is not None else float(not share or parallel > 1)
        bundle = {name: amount for name, amount in (("CPU", cpus), ("GPU", share), *replicas.custom.items()) if amount}
        return llm.vLLMEngineProcessorConfig(
            model_source=self._source,
            engine_kwargs=settings,
            concurrency=(1, options.replicas),
            batch_size=_BATCH_ROWS,
            placement_group_config={"bundles": [bundle] * parallel},
            should_continue_on_error=True,
            log_engine_metrics=False,
            # Prompts are already tokenised, and fit into the context.
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
            runtime_env={"env_vars": {name: value for name, value in os.environ.items() if _is_forwarded(name)}},
        )


def to_request(row: dict[str, Any]) -> dict[str, Any]:
    """Convert a row to a request; the schema stays text, since Arrow would unify the keys of all objects."""
    return {
        "at": row["at"],
        "tokenized_prompt": [int(token) for token in row["tokens"]],
        "sampling_params": {
            "temperature": 0.0,
            "max_tokens": int(row["output"]),
            "structured_outputs": {"json": row["schema"]},
        },
    }


def to_answer(row: dict[str, Any]) -> dict[str, Any]:
    """Extract the used fields of an answer."""
    return {"at": row["at"], "text": row["generated_text"], "length": row["num_generated_tokens"]}


def _is_forwarded(name: str) -> bool:
    """Whether an environment variable is passed to replicas; hub tokens are not, since nodes have their own."""
    return name.startswith(_FORWARDED_VARIABLES) and "TOKEN" not in name
