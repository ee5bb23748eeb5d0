"""Labeler with a chat model: one question per cluster, and a second one if the answer is not a valid label."""

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
    """Labels clusters with a chat model; see :class:`latentscale.labelers.model.ModelLabeler`.

    Parameters
    ----------
    options : ChatOptions
    chat : Chat
    model : str
        Name of the model in the details of labels.
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
        """Notes for the user on how the model was queried."""
        return self._chat.notes

    @property
    def batch(self) -> int:
        """Questions per call."""
        return self._chat.batch

    @property
    def concurrency(self) -> int:
        """Concurrent calls."""
        return self._chat.concurrency

    def count_with(self, spending: Spending) -> None:
        """Record the tokens of all further questions in ``spending``."""
        self._chat.count_with(spending)

    def label(self, evidence: Sequence[ClusterEvidence]) -> Sequence[Label | NoLabel]:
        """Label clusters, in order, with one question each.

        Raises
        ------
        LatentScaleError
            If it cannot continue.
        """
        answers = dict(self.label_each(evidence))
        return [answers[index] for index in range(len(evidence))]

    def label_each(self, evidence: Sequence[ClusterEvidence]) -> Iterator[tuple[int, Label | NoLabel]]:
        """Like :meth:`label`, but yields (position, answer) as answers arrive."""
        questions = [
            Question(
                prompt=partial(prompts.label_prompt, cluster, words=self._options.words_of(cluster.layer)),
                schema=ONE_LABEL,
            )
            for cluster in evidence
        ]
        rejected_indices: list[int] = []
        rejected: list[RejectedLabel] = []
        for index, reply in self._chat.ask(self._system, questions):
            answer = reply if isinstance(reply, NoLabel) else self.read(reply, layer=evidence[index].layer)
            if not isinstance(answer, str):
                yield index, answer
                continue
            rejected_indices.append(index)
            previous_label = previous_answer(cast("Reply", reply))
            rejected.append(
                RejectedLabel(evidence=evidence[index], label=previous_label, reason=answer, other_labels=())
            )
        if rejected:
            for position, second_answer in self.reconsider(rejected):
                yield rejected_indices[position], second_answer

    def reconsider(self, doubts: Sequence[RejectedLabel]) -> Iterator[tuple[int, Label | NoLabel]]:
        """Relabel clusters whose labels failed a test."""
        questions = [
            Question(
                prompt=partial(
                    prompts.reconsider_prompt,
                    rejected.evidence,
                    words=self._options.words_of(rejected.evidence.layer),
                    before=rejected.label,
                    reason=rejected.reason,
                    taken=rejected.other_labels,
                ),
                schema=ONE_LABEL,
            )
            for rejected in doubts
        ]
        for index, reply in self._chat.ask(self._system, questions):
            answer = reply if isinstance(reply, NoLabel) else self.read(reply, layer=doubts[index].evidence.layer)
            if isinstance(answer, str):
                reason = f"two answers of the model are no label: {doubts[index].reason}; {answer}"
                answer = NoLabel(reason=reason, final=True)
            yield index, answer

    def distinguish(self, groups: Sequence[SiblingGroup]) -> Iterator[tuple[int, Sequence[Label | NoLabel]]]:
        """Relabel groups of siblings with equivalent labels, each group with one question."""
        questions = [
            Question(
                prompt=partial(
                    prompts.distinguish_prompt,
                    group.members,
                    group.labels,
                    group.other_labels,
                    words=self._options.words_of(group.members[0].layer),
                ),
                schema=SEVERAL_LABELS,
                answers=len(group.members),
            )
            for group in groups
        ]
        for index, reply in self._chat.ask(self._system, questions):
            members = groups[index].members
            if isinstance(reply, NoLabel):
                yield index, [reply] * len(members)
                continue
            answer_by_number = _by_number(reply)
            answers: list[Label | NoLabel] = []
            for number in range(1, len(members) + 1):
                part = Reply(values=answer_by_number.get(number), text="", cut=reply.cut)
                label = self.read(part, layer=members[0].layer)
                if isinstance(label, str):
                    label = NoLabel(reason=f"its new name is no label: {label}", final=True)
                answers.append(label)
            yield index, answers

    def read(self, reply: Reply, *, layer: int) -> Label | str:
        """Return the label in a reply, or what is wrong with it."""
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
        has_confidence = (
            isinstance(confidence, int | float) and not isinstance(confidence, bool) and 0 <= confidence <= 1
        )
        return Label(
            label=label,
            source=self.name,
            details={"model": self._model},
            description=usable_description(description) if isinstance(description, str) else "",
            confidence=float(cast("float", confidence)) if has_confidence else None,
        )

    def stop(self) -> None:
        """Ask no further questions; called from another thread."""
        self._chat.stop()

    def close(self) -> None:
        """Release the resources of the model."""
        self._chat.close()


def previous_answer(reply: Reply) -> str:
    """Return what a model answered instead of a valid label, for the next prompt."""
    label = (reply.values or {}).get("label")
    return shortened(" ".join((label if isinstance(label, str) else reply.text).split()), 120)


def options_identity(options: ChatOptions) -> dict[str, Any]:
    """Return the parts of prompts and options that affect labels."""
    return {
        "prompts": prompts.prompts_identity(),
        "context": options.context,
        "language": options.language,
        "words": list(options.words),
        "evidence_tokens": options.evidence_tokens,
        "max_output_tokens": options.max_output_tokens,
    }


def tests_held_out(options: ChatOptions) -> bool:
    """Whether to test labels; by default if they are in the documents' language: most embedders know no other."""
    return not options.language if options.held_out is None else options.held_out


def _by_number(reply: Reply) -> Mapping[int, dict[str, Any]]:
    values_by_number: dict[int, dict[str, Any]] = {}
    groups = (reply.values or {}).get("groups")
    for entry in cast("list[Any]", groups) if isinstance(groups, list) else []:
        if isinstance(entry, dict):
            values = cast("dict[str, Any]", entry)
            number = values.get("number")
            if isinstance(number, int):
                values_by_number.setdefault(number, values)
    return values_by_number
