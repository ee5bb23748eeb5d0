"""Label clusters: ask for labels without a receipt, distinguish siblings, test labels, fall back to keyphrases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from latentscale.labelers.checks import equivalent_labels, fault_of_label, sense_of, shares_a_word
from latentscale.labelers.held_out import HeldOutScore, HeldOutTest
from latentscale.labelers.model import ModelLabeler, RejectedLabel, SiblingGroup
from latentscale.labelers.protocol import ClusterEvidence, Label, Labeler, NoLabel
from latentscale.labelers.receipts import FOLDER, follow_up_key, key_of, read_receipt, receipt_key, write_receipt
from latentscale.services.failures import StoppedError
from latentscale.storage.objects import Store

Result = TypeVar("Result")
FollowUpT = TypeVar("FollowUpT", RejectedLabel, SiblingGroup)
Answers = Sequence["Label | NoLabel"]

# Maximum siblings relabelled in one request.
_SIBLINGS_PER_REQUEST = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp(Generic[FollowUpT]):
    """A follow-up question about clusters.

    Attributes
    ----------
    key : str
        Key of its receipt.
    members : list of int
        Positions of the clusters.
    asked : RejectedLabel or SiblingGroup
    """

    key: str
    members: list[int]
    asked: FollowUpT


@dataclass(slots=True, kw_only=True)
class NamingResult:
    """The labels of clusters, in the order of their evidence.

    Attributes
    ----------
    labels : list of Label
    receipts : list of str or None
        Receipt keys of the first answers; None if the labeler keeps no receipts.
    later : list of list of str
        Receipt keys of the follow-up answers about each cluster.
    held_out : list of float or None
        Share of held-out documents that are nearest to their label; None if not measured.
    asked : int
        Number of clusters for which the labeler was called, excluding those with a receipt.
    again : int
        Number of follow-up requests, for equivalent siblings and labels that failed a test.
    """

    labels: list[Label]
    receipts: list[str | None]
    later: list[list[str]]
    held_out: list[float | None]
    asked: int = 0
    again: int = 0


class Naming:
    """Labels clusters by one labeler.

    Parameters
    ----------
    store : Store
        Store of the receipts.
    open_labeler : callable
        Opens the labeler; called on first use.
    identity : mapping
        Identity of the labeler, including its name.
    keeps_receipts : bool
    evidence : sequence of ClusterEvidence
    settled : mapping of int to Label, optional
        Existing labels by position, for which the labeler is not called.
    again : int
        Clusters without a label are asked about again if this number is higher than at the last attempt.
    progress : callable
        Called with (done, total) in clusters.
    """

    def __init__(
        self,
        store: Store,
        open_labeler: Callable[[], Labeler],
        *,
        identity: Mapping[str, Any],
        keeps_receipts: bool,
        evidence: Sequence[ClusterEvidence],
        settled: Mapping[int, Label] | None = None,
        again: int = 0,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._store = store
        self._open = open_labeler
        self._opened: Labeler | None = None
        self._lock = threading.Lock()
        self._identity = identity
        self._keeps_receipts = keeps_receipts
        self._evidence = evidence
        self._settled = settled or {}
        self._again = again
        self._progress = progress
        self._receipt_keys = {key_of(name) for name in store.list(FOLDER, brief=True)} if keeps_receipts else set[str]()
        count = len(evidence)
        self.named = NamingResult(
            labels=[self._settled.get(index) or _fallback(cluster, "") for index, cluster in enumerate(evidence)],
            receipts=[
                receipt_key(identity, cluster) if keeps_receipts and index not in self._settled else None
                for index, cluster in enumerate(evidence)
            ],
            later=[[] for _ in range(count)],
            held_out=[None] * count,
        )

    @property
    def labeler(self) -> Any:
        """The labeler, opened on first use."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    @property
    def opened(self) -> Any:
        """The labeler, or None if it was not needed."""
        return self._opened

    def ask(self) -> None:
        """Label each cluster that has no receipt yet."""
        result, evidence = self.named, self._evidence
        missing: list[int] = []
        for index, key in enumerate(result.receipts):
            if index in self._settled:
                continue
            label = self._read_label(key)
            if label is None:
                missing.append(index)
            else:
                result.labels[index] = label if label.label else _fallback(evidence[index], label.reason)
        if not missing:
            return
        labeler: Labeler = self.labeler
        # Clusters with equal evidence, such as those of copies of one text, are asked about only once.
        copies: dict[int, list[int]] = {}
        first_by_key: dict[str, int] = {}
        for index in missing:
            key = result.receipts[index]
            copies.setdefault(index if key is None else first_by_key.setdefault(key, index), []).append(index)
        to_ask = list(copies)
        result.asked = len(to_ask)
        batches = [to_ask[start : start + labeler.batch] for start in range(0, len(to_ask), labeler.batch)]
        done = len(evidence) - len(missing)

        def label_batch(batch: Sequence[int]) -> list[tuple[int, Label | NoLabel | None]]:
            answers: list[tuple[int, Label | NoLabel | None]] = []
            for position, answer in _iter_answers(labeler, [evidence[index] for index in batch]):
                key = result.receipts[batch[position]]
                if key is not None:
                    self._write_answer(key, answer)
                answers.append((batch[position], answer))
            return answers

        for answers in run_concurrently(
            [partial(label_batch, batch) for batch in batches], labeler.concurrency, self.stop
        ):
            for representative, answer in answers:
                for index in copies[representative]:
                    result.labels[index] = self._label_of(index, answer)
                done += len(copies[representative])
            self._progress(done, len(evidence))

    def distinguish(self, siblings: Sequence[Sequence[int]]) -> None:
        """Ask again about siblings with equivalent labels, all children of a parent in one request.

        Parameters
        ----------
        siblings : sequence of sequence of int
            The clusters of each parent.
        """
        follow_ups: list[FollowUp[SiblingGroup]] = []
        for group in siblings:
            labels = [self.named.labels[index].label for index in group]
            duplicates = [group[position] for positions in equivalent_labels(labels) for position in positions]
            to_ask = [index for index in duplicates if self._is_from_labeler(index)]
            other_labels = [self.named.labels[index].label for index in group if index not in set(to_ask)]
            follow_ups += [
                self._sibling_follow_up(to_ask[start : start + _SIBLINGS_PER_REQUEST], other_labels)
                for start in range(0, len(to_ask), _SIBLINGS_PER_REQUEST)
            ]

        def ask(labeler: ModelLabeler, groups: Sequence[SiblingGroup]) -> Iterator[tuple[int, Answers]]:
            return labeler.distinguish(groups)

        for follow_up, answers in self._ask_follow_ups(follow_ups, ask):
            for index, answer in zip(follow_up.members, answers, strict=True):
                if isinstance(answer, Label):
                    self.named.labels[index] = answer
        for group in siblings:
            self._resolve_duplicates(group)

    def test(self, held_out: HeldOutTest, siblings: Sequence[Sequence[int]]) -> None:
        """Test the labels on held-out documents; ask again about those that fail, then fall back to keyphrases.

        Parameters
        ----------
        siblings : sequence of sequence of int
            The clusters of each parent.
        """
        result = self.named
        model_labels = [index for index in range(len(result.labels)) if self._is_from_labeler(index)]
        first_scores = self._held_out_scores(held_out, model_labels)
        failing = [
            index
            for index in model_labels
            if self._failure_reason(index, first_scores.get(index), held_out) is not None
        ]
        follow_ups = [
            self._rejected_follow_up(
                index,
                str(self._failure_reason(index, first_scores.get(index), held_out)),
                self._labels_of_siblings(index, siblings),
            )
            for index in failing
        ]

        def ask(labeler: ModelLabeler, doubts: Sequence[RejectedLabel]) -> Iterator[tuple[int, Answers]]:
            return ((number, [answer]) for number, answer in labeler.reconsider(doubts))

        for follow_up, (answer, *_) in self._ask_follow_ups(follow_ups, ask):
            if isinstance(answer, Label):
                result.labels[follow_up.members[0]] = answer
        second_scores = self._held_out_scores(held_out, model_labels)
        for index in failing:
            reason = self._failure_reason(index, second_scores.get(index), held_out)
            if reason is None:
                continue
            suggestion = self._evidence[index].suggestion
            fallback_score = held_out.try_instead([label.label for label in result.labels], index, suggestion)
            score = second_scores.get(index)
            if score is not None and fallback_score is not None and fallback_score.share < score.share:
                result.labels[index] = replace(
                    result.labels[index], reason=f"kept, as keyphrases do no better: {reason}"
                )
            else:
                result.labels[index] = _fallback(self._evidence[index], reason)
        for group in siblings:
            self._resolve_duplicates(group)
        all_clusters = list(range(len(result.labels)))
        for index, score in self._held_out_scores(held_out, all_clusters).items():
            result.held_out[index] = round(score.share, 4)

    def stop(self) -> None:
        """Stop sending requests to a service."""
        stop = getattr(self._opened, "stop", None)
        if stop is not None:
            stop()

    def _is_from_labeler(self, index: int) -> bool:
        return self.named.labels[index].source == self._identity["name"]

    def _held_out_scores(self, held_out: HeldOutTest, clusters: Sequence[int]) -> dict[int, HeldOutScore]:
        return held_out.try_labels([label.label for label in self.named.labels], clusters)

    def _failure_reason(self, index: int, score: HeldOutScore | None, held_out: HeldOutTest) -> str | None:
        """Return the reason why the label of a cluster fails, or None."""
        label = self.named.labels[index].label
        if score is not None:
            if score.rival is None:
                return None
            return (
                f"it fails the held-out test: of those held out, {score.share:.0%} are nearest to it, "
                f"and more to its sibling's {self.named.labels[score.rival].label!r}"
            )
        if held_out.vectors([label])[0] is not None:
            return None
        evidence = self._evidence[index]
        values = [share.value for share in evidence.columns]
        has_known_word = shares_a_word(label, [*evidence.keyphrases, *evidence.texts, *values])
        return None if has_known_word else "neither the map's model nor the evidence knows one of its words"

    def _labels_of_siblings(self, index: int, siblings: Sequence[Sequence[int]]) -> list[str]:
        group = next((group for group in siblings if index in group), ())
        return [self.named.labels[sibling].label for sibling in group if sibling != index]

    def _resolve_duplicates(self, group: Sequence[int]) -> None:
        """Among siblings with equal labels the largest keeps it; the others fall back to their keyphrases."""
        seen: dict[str, int] = {}
        for index in sorted(
            group, key=lambda index: (not self._is_from_labeler(index), -self._evidence[index].size, index)
        ):
            sense = sense_of(self.named.labels[index].label)
            if sense in seen and self._is_from_labeler(index):
                first_label = self.named.labels[seen[sense]].label
                self.named.labels[index] = _fallback(
                    self._evidence[index],
                    f"it is a sibling's label: {self.named.labels[index].label!r} says the same as its sibling's "
                    f"{first_label!r}",
                )
            seen.setdefault(sense, index)

    def _sibling_follow_up(self, members: list[int], other_labels: Sequence[str]) -> FollowUp[SiblingGroup]:
        evidence = [self._evidence[index] for index in members]
        labels = [self.named.labels[index].label for index in members]
        key = follow_up_key(self._identity, evidence, {"distinguish": labels})
        return FollowUp(
            key=key, members=members, asked=SiblingGroup(members=evidence, labels=labels, other_labels=other_labels)
        )

    def _rejected_follow_up(self, index: int, reason: str, other_labels: Sequence[str]) -> FollowUp[RejectedLabel]:
        evidence, label = self._evidence[index], self.named.labels[index].label
        key = follow_up_key(self._identity, [evidence], {"reconsider": label})
        return FollowUp(
            key=key,
            members=[index],
            asked=RejectedLabel(evidence=evidence, label=label, reason=reason, other_labels=other_labels),
        )

    def _ask_follow_ups(
        self,
        follow_ups: Sequence[FollowUp[FollowUpT]],
        ask: Callable[[ModelLabeler, Sequence[FollowUpT]], Iterator[tuple[int, Answers]]],
    ) -> list[tuple[FollowUp[FollowUpT], Answers]]:
        """Return the answers of follow-up questions, each of which has one receipt, so that none is paid for twice."""
        answered: list[tuple[FollowUp[FollowUpT], Answers]] = []
        missing: list[FollowUp[FollowUpT]] = []
        for follow_up in follow_ups:
            receipt = self._read_label(follow_up.key)
            if receipt is None:
                missing.append(follow_up)
            else:
                answered.append((follow_up, [_answer_from_json(values) for values in receipt.details["answers"]]))
            if self._keeps_receipts:
                for index in follow_up.members:
                    self.named.later[index].append(follow_up.key)
        if not missing:
            return answered
        labeler: Any = self.labeler
        batches = [missing[start : start + labeler.batch] for start in range(0, len(missing), labeler.batch)]

        def ask_batch(batch: Sequence[FollowUp[FollowUpT]]) -> list[tuple[FollowUp[FollowUpT], Answers]]:
            batch_answers: list[tuple[FollowUp[FollowUpT], Answers]] = []
            for position, answers in ask(labeler, [follow_up.asked for follow_up in batch]):
                self._write_follow_up(batch[position].key, answers)
                batch_answers.append((batch[position], answers))
            return batch_answers

        for batch_answered in run_concurrently(
            [partial(ask_batch, batch) for batch in batches], labeler.concurrency, self.stop
        ):
            self.named.again += len(batch_answered)
            answered += batch_answered
        return answered

    def _write_follow_up(self, key: str, answers: Answers) -> None:
        if not self._keeps_receipts or not all(isinstance(answer, Label) or answer.final for answer in answers):
            return
        details = {"answers": [_answer_to_json(answer) for answer in answers], "again": self._again}
        refused = not any(isinstance(answer, Label) for answer in answers)
        source = str(self._identity["name"])
        write_receipt(self._store, key, Label(label="", source=source, details=details | {"refused": refused}))

    def _read_label(self, key: str | None) -> Label | None:
        if key is None or key not in self._receipt_keys:
            return None
        label = read_receipt(self._store, key)
        refused = label.details.get("refused", False)
        return None if refused and int(label.details.get("again", 0)) < self._again else label

    def _write_answer(self, key: str, answer: Label | NoLabel | None) -> None:
        if isinstance(answer, Label):
            write_receipt(self._store, key, answer)
        elif isinstance(answer, NoLabel) and answer.final:
            details = {"refused": True, "again": self._again}
            write_receipt(self._store, key, Label(label="", source="none", details=details, reason=answer.reason))

    def _label_of(self, index: int, answer: Label | NoLabel | None) -> Label:
        if isinstance(answer, Label):
            return answer
        reason = answer.reason if answer is not None else f"{self._identity['name']} has no label for it"
        return _fallback(self._evidence[index], reason)


def _iter_answers(labeler: Any, evidence: Sequence[ClusterEvidence]) -> Iterator[tuple[int, Label | NoLabel | None]]:
    """Yield (position, answer), as they arrive if the labeler supports that."""
    label_each = getattr(labeler, "label_each", None)
    if label_each is not None:
        yield from label_each(evidence)
    else:
        yield from zip(range(len(evidence)), labeler.label(evidence), strict=True)


def _fallback(evidence: ClusterEvidence, reason: str) -> Label:
    """Return the label by keyphrases, with the reason of the fallback."""
    return Label(label=evidence.suggestion, source="keyphrases" if evidence.keyphrases else "none", reason=reason)


def _answer_to_json(answer: Label | NoLabel) -> dict[str, Any]:
    if isinstance(answer, NoLabel):
        return {"reason": answer.reason}
    return {
        "label": answer.label,
        "source": answer.source,
        "details": dict(answer.details),
        "description": answer.description,
        "confidence": answer.confidence,
    }


def _answer_from_json(values: Mapping[str, Any]) -> Label | NoLabel:
    if "label" not in values or fault_of_label(str(values["label"])) is not None:
        return NoLabel(reason=str(values.get("reason", "it is no label")), final=True)
    return Label(**values)


def run_concurrently(
    work: Sequence[Callable[[], Result]], concurrency: int, stop: Callable[[], None]
) -> Iterator[Result]:
    """Run functions in up to ``concurrency`` threads and yield results as they finish; a failure stops new starts.

    Raises
    ------
    Exception
        The first failure, ignoring work that was stopped because of another one.
    """
    pool = ThreadPoolExecutor(max(1, concurrency), thread_name_prefix="labels")
    tasks, running = iter(work), set[Future[Result]]()
    failures: list[BaseException] = []
    try:
        while True:
            while not failures and len(running) < concurrency and (task := next(tasks, None)) is not None:
                running.add(pool.submit(task))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                if error is None:
                    yield future.result()
                else:
                    failures.append(error)
                    stop()
    except BaseException:
        stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failures:
        raise next((error for error in failures if not isinstance(error, StoppedError)), failures[0])
