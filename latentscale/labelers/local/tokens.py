"""Tokenise questions with a model's chat template, with as much evidence as fits into its context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentscale.errors import ConfigError, require
from latentscale.labelers.chat import WHERE, Question
from latentscale.labelers.local.folder import LEAST_ANSWER
from latentscale.labelers.local.options import LocalOptions
from latentscale.labelers.protocol import NoLabel

# Minimum tokens reserved for an answer with one label, if possible: a description may be in any script.
_PREFERRED_ANSWER = 256
_MAX_TRIES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A tokenised question that fits into the context.

    Attributes
    ----------
    tokens : list of int
        Token ids of the prompt.
    output : int
        Maximum tokens of the answer.
    """

    tokens: list[int]
    output: int


class PromptTokens:
    """Tokenises questions with the chat template of a model.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    context : int
        Maximum tokens of a question and its answer together.
    options : LocalOptions
    notice : callable
        Called once if the chat template does not support a system prompt.
    """

    def __init__(self, tokenizer: Any, context: int, options: LocalOptions, notice: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._options = options
        self._notice = notice
        self._supports_system = True

    def fit(self, system: str, question: Question) -> Fitted | NoLabel:
        """Tokenise a question, with less evidence if it is too long; ``NoLabel`` if it does not fit."""
        max_output = self._options.max_output_tokens * question.answers
        min_output = min(max_output, _PREFERRED_ANSWER if question.answers == 1 else LEAST_ANSWER * question.answers)
        evidence = self._options.evidence_tokens
        tokens: list[int] = []
        for tries_left in reversed(range(_MAX_TRIES)):
            tokens = self.encode(system, question.prompt(tokens=evidence))
            room = self._context - len(tokens)
            if room >= min_output:
                return Fitted(tokens=tokens, output=min(max_output, room))
            if evidence == 0:
                break
            # Tokens are only estimated from bytes: reduce by at least a fifth per step.
            evidence = 0 if tries_left == 1 else max(0, min(evidence - (min_output - room), round(evidence * 0.8)))
        return NoLabel(
            reason=f"the question has {len(tokens):,} tokens, which leave no room for the answer in the "
            f"{self._context:,} that the model takes",
            final=True,
        )

    def fit_all(
        self, system: str, questions: Sequence[Question]
    ) -> tuple[dict[int, Fitted], list[tuple[int, NoLabel]]]:
        """Apply ``fit`` to each question: those that fit by position, and the others with the reason."""
        fitted: dict[int, Fitted] = {}
        unfitted: list[tuple[int, NoLabel]] = []
        for index, question in enumerate(questions):
            result = self.fit(system, question)
            if isinstance(result, NoLabel):
                unfitted.append((index, result))
            else:
                fitted[index] = result
        return fitted, unfitted

    def encode(self, system: str, prompt: str) -> list[int]:
        """Tokenise a conversation for the model to continue."""
        text = self._render(system, prompt)
        return [int(token) for token in self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]

    def _render(self, system: str, prompt: str) -> str:
        if self._supports_system:
            try:
                return self._template([{"role": "system", "content": system}, {"role": "user", "content": prompt}])
            except Exception as error:  # noqa: BLE001 - a template may raise anything
                self._reject_broken(error)
                self._supports_system = False
                self._notice("the model's chat template takes no system prompt: it stands before each question")
        return self._template([{"role": "user", "content": f"{system}\n\n{prompt}"}])

    def _reject_broken(self, error: Exception) -> None:
        """Raise if the template fails for any conversation."""
        try:
            self._template([{"role": "user", "content": "Hello"}])
        except Exception:  # noqa: BLE001 - as above
            raise ConfigError(
                f"the chat template of the model cannot be used: {' '.join(str(error).split())[:300]}",
                where=f"{WHERE}.model",
                hint="Download the model again, or use another one.",
            ) from error

    def _template(self, messages: list[dict[str, str]]) -> str:
        # Templates without reasoning mode ignore ``enable_thinking``.
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )


def load_chat_tokenizer(path: Path, *, extra: str, used_for: str) -> Any:
    """Load a tokenizer with its chat template, only from the files of the folder.

    Raises
    ------
    MissingPackageError
        If transformers is not installed.
    ConfigError
        If it cannot be loaded.
    """
    transformers: Any = require("transformers", extra=extra, used_for=used_for)
    try:
        return transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # from various libraries with their own exception types
        raise ConfigError(
            f"transformers cannot make the tokenizer of {path.name}: {' '.join(str(error).split())[:300]}",
            where=f"{WHERE}.model",
            hint="Download the model again, or save its tokenizer with save_pretrained.",
        ) from error
