"""The labeler that asks a chat model: one question a cluster, one more where its answer is no label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, cast

from latentscale.errors import shortened
from latentscale.labelers.chat import prompts
from latentscale.labelers.chat.answers import ONE_LABEL, SEVERAL_LABELS
from latentscale.labelers.chat.options import ChatOptions
from latentscale.labelers.chat.protocol import Chat, Question, Reply
from latentscale.labelers.checks import fault_of_label, tidy, usable_description
from latentscale.labelers.model import RejectedLabel, SiblingGroup
from latentscale.labelers.options import WHERE
from latentscale.labelers.protocol import ClusterEvidence, Evidence, Label, NoLabel
from latentscale.services.terms import Spending


class ChatLabeler:
    """Names clusters by a chat model; see :class:`latentscale.labelers.model.ModelLabeler`.

    Parameters
    ----------
    options : ChatOptions
    chat : Chat
    model : str
        As labels name it.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Evidence]] = frozenset({"texts", "columns", "siblings"})
    keeps_receipts: ClassVar[bool] = True
    asks_a_model: ClassVar[bool] = True

    def __init__(self, options: ChatOptions, chat: Chat, *, model: str) -> None:
        self._options = options
        self._chat = chat
        self._model = model
        self._system = prompts.system_prompt(options)

    @property
    def notes(self) -> list[str]:
        """What a person should know of how the model was asked."""
        return self._chat.notes

    @property
    def batch(self) -> int:
        """Questions in a call."""
        return self._chat.batch

    @property
    def concurrency(self) -> int:
        """Calls at a time."""
        return self._chat.concurrency

    def count_with(self, spending: Spending) -> None:
        """Have the tokens of all questions from now on counted."""
        self._chat.count_with(spending)

    def label(self, evidence: Sequence[ClusterEvidence]) -> Sequence[Label | NoLabel]:
        """Name some clusters, in order, each by a question of its own.

        Raises
        ------
        LatentScaleError
            If the model can be asked nothing more.
        """
        found = dict(self.label_each(evidence))
        return [found[at] for at in range(len(evidence))]

    def label_each(self, evidence: Sequence[ClusterEvidence]) -> Iterator[tuple[int, Label | NoLabel]]:
        """As :meth:`label`, each as soon as it is there, with its position."""
        questions = [
            Question(
                prompt=partial(prompts.label_prompt, one, words=self._options.words_of(one.layer)), schema=ONE_LABEL
            )
            for one in evidence
        ]
        doubted: list[int] = []
        doubts: list[RejectedLabel] = []
        for at, reply in self._chat.ask(self._system, questions):
            found = reply if isinstance(reply, NoLabel) else self.read(reply, layer=evidence[at].layer)
            if not isinstance(found, str):
                yield at, found
                continue
            doubted.append(at)
            said = said_instead(cast("Reply", reply))
            doubts.append(RejectedLabel(evidence=evidence[at], label=said, reason=found, other_labels=()))
        if doubts:
            for number, answer in self.reconsider(doubts):
                yield doubted[number], answer

    def reconsider(self, doubts: Sequence[RejectedLabel]) -> Iterator[tuple[int, Label | NoLabel]]:
        """Name clusters again whose labels failed a test."""
        questions = [
            Question(
                prompt=partial(
                    prompts.reconsider_prompt,
                    one.evidence,
                    words=self._options.words_of(one.evidence.layer),
                    before=one.label,
                    reason=one.reason,
                    taken=one.other_labels,
                ),
                schema=ONE_LABEL,
            )
            for one in doubts
        ]
        for at, reply in self._chat.ask(self._system, questions):
            found = reply if isinstance(reply, NoLabel) else self.read(reply, layer=doubts[at].evidence.layer)
            if isinstance(found, str):
                reason = f"two answers of the model are no label: {doubts[at].reason}; {found}"
                found = NoLabel(reason=reason, final=True)
            yield at, found

    def distinguish(self, groups: Sequence[SiblingGroup]) -> Iterator[tuple[int, Sequence[Label | NoLabel]]]:
        """Name siblings again whose labels say the same, each group in one question."""
        questions = [
            Question(
                prompt=partial(
                    prompts.distinguish_prompt,
                    one.members,
                    one.labels,
                    one.other_labels,
                    words=self._options.words_of(one.members[0].layer),
                ),
                schema=SEVERAL_LABELS,
                answers=len(one.members),
            )
            for one in groups
        ]
        for at, reply in self._chat.ask(self._system, questions):
            members = groups[at].members
            if isinstance(reply, NoLabel):
                yield at, [reply] * len(members)
                continue
            said = _by_number(reply)
            found: list[Label | NoLabel] = []
            for number in range(1, len(members) + 1):
                one = Reply(values=said.get(number), text="", cut=reply.cut)
                label = self.read(one, layer=members[0].layer)
                if isinstance(label, str):
                    label = NoLabel(reason=f"its new name is no label: {label}", final=True)
                found.append(label)
            yield at, found

    def read(self, reply: Reply, *, layer: int) -> Label | str:
        """The label of a reply, or what is wrong with it."""
        values = reply.values
        if values is None or not isinstance(values.get("label"), str):
            if reply.cut:
                return f"it was cut after {WHERE}.max_output_tokens = {self._options.max_output_tokens:,}"
            return "the answer is empty" if not reply.text.strip() and values is None else "the answer is not such JSON"
        label = tidy(values["label"])
        fault = fault_of_label(label, words=self._options.words_of(layer))
        if fault is not None:
            return fault
        description, confidence = values.get("description"), values.get("confidence")
        sure = isinstance(confidence, int | float) and not isinstance(confidence, bool) and 0 <= confidence <= 1
        return Label(
            label=label,
            source=self.name,
            details={"model": self._model},
            description=usable_description(description) if isinstance(description, str) else "",
            confidence=float(cast("float", confidence)) if sure else None,
        )

    def stop(self) -> None:
        """Ask nothing more; called from another thread."""
        self._chat.stop()

    def close(self) -> None:
        """Release what the model holds."""
        self._chat.close()


def said_instead(reply: Reply) -> str:
    """What a model said instead of a label, for the next prompt."""
    label = (reply.values or {}).get("label")
    return shortened(" ".join((label if isinstance(label, str) else reply.text).split()), 120)


def asked_identity(options: ChatOptions) -> dict[str, Any]:
    """What of the prompts and of the options alters the labels."""
    return {
        "prompts": prompts.prompts_identity(),
        "context": options.context,
        "language": options.language,
        "words": list(options.words),
        "evidence_tokens": options.evidence_tokens,
        "max_output_tokens": options.max_output_tokens,
    }


def tests_held_out(options: ChatOptions) -> bool:
    """By default where labels are in the language of the documents: most embedders know no other."""
    return not options.language if options.held_out is None else options.held_out


def _by_number(reply: Reply) -> Mapping[int, dict[str, Any]]:
    said: dict[int, dict[str, Any]] = {}
    groups = (reply.values or {}).get("groups")
    for entry in cast("list[Any]", groups) if isinstance(groups, list) else []:
        if isinstance(entry, dict):
            values = cast("dict[str, Any]", entry)
            number = values.get("number")
            if isinstance(number, int):
                said.setdefault(number, values)
    return said
