"""Questions as tokens of a model: in its chat template, with as much evidence as its context has room for."""

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

# An answer of one label needs more room than the least where the prompt leaves any: a description may be in any script.
_ANSWER = 256
_TRIES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A question that fits into the context.

    Attributes
    ----------
    tokens : list of int
        Of the prompt.
    output : int
        Tokens that the answer may have.
    """

    tokens: list[int]
    output: int


class PromptTokens:
    """Writes questions as a model was taught to read them.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    context : int
        Tokens of a question and its answer together.
    options : LocalOptions
    notice : callable
        Told once what the model's template does not take.
    """

    def __init__(self, tokenizer: Any, context: int, options: LocalOptions, notice: Callable[[str], None]) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._options = options
        self._notice = notice
        self._takes_system = True

    def fit(self, system: str, question: Question) -> Fitted | NoLabel:
        """A question with less evidence where it is too long, or why it cannot be asked."""
        wanted = self._options.max_output_tokens * question.answers
        least = min(wanted, _ANSWER if question.answers == 1 else LEAST_ANSWER * question.answers)
        evidence = self._options.evidence_tokens
        found: list[int] = []
        for left in reversed(range(_TRIES)):
            found = self.encode(system, question.prompt(tokens=evidence))
            room = self._context - len(found)
            if room >= least:
                return Fitted(tokens=found, output=min(wanted, room))
            if evidence == 0:
                break
            # What four bytes a token says is a guess: the rest of the way is taken in larger steps.
            evidence = 0 if left == 1 else max(0, min(evidence - (least - room), round(evidence * 0.8)))
        return NoLabel(
            reason=f"the question has {len(found):,} tokens, which leave no room for the answer in the "
            f"{self._context:,} that the model takes",
            final=True,
        )

    def fit_all(
        self, system: str, questions: Sequence[Question]
    ) -> tuple[dict[int, Fitted], list[tuple[int, NoLabel]]]:
        """``fit`` of each question: those that can be asked, by their position, and why the others cannot."""
        fitted: dict[int, Fitted] = {}
        refused: list[tuple[int, NoLabel]] = []
        for at, question in enumerate(questions):
            found = self.fit(system, question)
            if isinstance(found, NoLabel):
                refused.append((at, found))
            else:
                fitted[at] = found
        return fitted, refused

    def encode(self, system: str, prompt: str) -> list[int]:
        """The tokens of a conversation that the model has to go on with."""
        text = self._written(system, prompt)
        return [int(one) for one in self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]]

    def _written(self, system: str, prompt: str) -> str:
        if self._takes_system:
            try:
                return self._template([{"role": "system", "content": system}, {"role": "user", "content": prompt}])
            except Exception as error:  # noqa: BLE001 - a template raises what it likes
                self._refuse_broken(error)
                self._takes_system = False
                self._notice("the model's chat template takes no system prompt: it stands before each question")
        return self._template([{"role": "user", "content": f"{system}\n\n{prompt}"}])

    def _refuse_broken(self, error: Exception) -> None:
        """Refuse a template that writes no conversation at all."""
        try:
            self._template([{"role": "user", "content": "Hello"}])
        except Exception:  # noqa: BLE001 - as above
            raise ConfigError(
                f"the chat template of the model cannot be used: {' '.join(str(error).split())[:300]}",
                where=f"{WHERE}.model",
                hint="Fetch the model anew, or use another one.",
            ) from error

    def _template(self, messages: list[dict[str, str]]) -> str:
        # Templates that know no thinking pass over the word.
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )


def load_chat_tokenizer(path: Path, *, extra: str, used_for: str) -> Any:
    """The tokenizer with its chat template, from the files of the folder alone.

    Raises
    ------
    MissingPackageError
        If transformers is not installed.
    ConfigError
        If it cannot be made.
    """
    transformers: Any = require("transformers", extra=extra, used_for=used_for)
    try:
        return transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of a dozen libraries, each with types of its own
        raise ConfigError(
            f"transformers cannot make the tokenizer of {path.name}: {' '.join(str(error).split())[:300]}",
            where=f"{WHERE}.model",
            hint="Fetch the model anew, or save its tokenizer with save_pretrained.",
        ) from error
