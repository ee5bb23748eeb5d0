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

Found = TypeVar("Found")
Asked = TypeVar("Asked", RejectedLabel, SiblingGroup)
Answers = Sequence["Label | NoLabel"]

# Most siblings relabelled in one request.
_TOGETHER = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp(Generic[Asked]):
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
    asked: Asked


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
        self._keeps = keeps_receipts
        self._evidence = evidence
        self._settled = settled or {}
        self._again = again
        self._progress = progress
        self._kept = {key_of(name) for name in store.list(FOLDER, brief=True)} if keeps_receipts else set[str]()
        count = len(evidence)
        self.named = NamingResult(
            labels=[self._settled.get(at) or _fallback(one, "") for at, one in enumerate(evidence)],
            receipts=[
                receipt_key(identity, one) if keeps_receipts and at not in self._settled else None
                for at, one in enumerate(evidence)
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
        named, evidence = self.named, self._evidence
        missing: list[int] = []
        for at, key in enumerate(named.receipts):
            if at in self._settled:
                continue
            kept = self._read_label(key)
            if kept is None:
                missing.append(at)
            else:
                named.labels[at] = kept if kept.label else _fallback(evidence[at], kept.reason)
        if not missing:
            return
        labeler: Labeler = self.labeler
        # Clusters with equal evidence, such as those of copies of one text, are asked about only once.
        copies: dict[int, list[int]] = {}
        first: dict[str, int] = {}
        for at in missing:
            key = named.receipts[at]
            copies.setdefault(at if key is None else first.setdefault(key, at), []).append(at)
        wanted = list(copies)
        named.asked = len(wanted)
        batches = [wanted[start : start + labeler.batch] for start in range(0, len(wanted), labeler.batch)]
        done = len(evidence) - len(missing)

        def name(batch: Sequence[int]) -> list[tuple[int, Label | NoLabel | None]]:
            found: list[tuple[int, Label | NoLabel | None]] = []
            for number, answer in _iter_answers(labeler, [evidence[at] for at in batch]):
                key = named.receipts[batch[number]]
                if key is not None:
                    self._write_answer(key, answer)
                found.append((batch[number], answer))
            return found

        for found in run_concurrently([partial(name, batch) for batch in batches], labeler.concurrency, self.stop):
            for asked, answer in found:
                for at in copies[asked]:
                    named.labels[at] = self._label_of(at, answer)
                done += len(copies[asked])
            self._progress(done, len(evidence))

    def distinguish(self, siblings: Sequence[Sequence[int]]) -> None:
        """Ask again about siblings with equivalent labels, all children of a parent in one request.

        Parameters
        ----------
        siblings : sequence of sequence of int
            The clusters of each parent.
        """
        rounds: list[FollowUp[SiblingGroup]] = []
        for group in siblings:
            labels = [self.named.labels[at].label for at in group]
            same = [group[at] for one in equivalent_labels(labels) for at in one]
            again = [at for at in same if self._is_own(at)]
            other_labels = [self.named.labels[at].label for at in group if at not in set(again)]
            rounds += [
                self._sibling_follow_up(again[start : start + _TOGETHER], other_labels)
                for start in range(0, len(again), _TOGETHER)
            ]

        def ask(labeler: ModelLabeler, groups: Sequence[SiblingGroup]) -> Iterator[tuple[int, Answers]]:
            return labeler.distinguish(groups)

        for one, answers in self._ask_follow_ups(rounds, ask):
            for at, answer in zip(one.members, answers, strict=True):
                if isinstance(answer, Label):
                    self.named.labels[at] = answer
        for group in siblings:
            self._resolve_duplicates(group)

    def test(self, held_out: HeldOutTest, siblings: Sequence[Sequence[int]]) -> None:
        """Test the labels on held-out documents; ask again about those that fail, then fall back to keyphrases.

        Parameters
        ----------
        siblings : sequence of sequence of int
            The clusters of each parent.
        """
        named = self.named
        own = [at for at in range(len(named.labels)) if self._is_own(at)]
        first = self._held_out_scores(held_out, own)
        failing = [at for at in own if self._failure_reason(at, first.get(at), held_out) is not None]
        rounds = [
            self._rejected_follow_up(
                at, str(self._failure_reason(at, first.get(at), held_out)), self._labels_of_siblings(at, siblings)
            )
            for at in failing
        ]

        def ask(labeler: ModelLabeler, doubts: Sequence[RejectedLabel]) -> Iterator[tuple[int, Answers]]:
            return ((number, [answer]) for number, answer in labeler.reconsider(doubts))

        for one, (answer, *_) in self._ask_follow_ups(rounds, ask):
            if isinstance(answer, Label):
                named.labels[one.members[0]] = answer
        second = self._held_out_scores(held_out, own)
        for at in failing:
            reason = self._failure_reason(at, second.get(at), held_out)
            if reason is None:
                continue
            suggestion = self._evidence[at].suggestion
            instead = held_out.try_instead([one.label for one in named.labels], at, suggestion)
            score = second.get(at)
            if score is not None and instead is not None and instead.share < score.share:
                named.labels[at] = replace(named.labels[at], reason=f"kept, as keyphrases do no better: {reason}")
            else:
                named.labels[at] = _fallback(self._evidence[at], reason)
        for group in siblings:
            self._resolve_duplicates(group)
        everything = list(range(len(named.labels)))
        for at, score in self._held_out_scores(held_out, everything).items():
            named.held_out[at] = round(score.share, 4)

    def stop(self) -> None:
        """Stop sending requests to a service."""
        stop = getattr(self._opened, "stop", None)
        if stop is not None:
            stop()

    def _is_own(self, at: int) -> bool:
        return self.named.labels[at].source == self._identity["name"]

    def _held_out_scores(self, held_out: HeldOutTest, wanted: Sequence[int]) -> dict[int, HeldOutScore]:
        return held_out.try_labels([one.label for one in self.named.labels], wanted)

    def _failure_reason(self, at: int, score: HeldOutScore | None, held_out: HeldOutTest) -> str | None:
        """Return the reason why the label of a cluster fails, or None."""
        label = self.named.labels[at].label
        if score is not None:
            if score.rival is None:
                return None
            return (
                f"it fails the held-out test: of those held out, {score.share:.0%} are nearest to it, "
                f"and more to its sibling's {self.named.labels[score.rival].label!r}"
            )
        if held_out.vectors([label])[0] is not None:
            return None
        one = self._evidence[at]
        values = [share.value for share in one.columns]
        known = shares_a_word(label, [*one.keyphrases, *one.texts, *values])
        return None if known else "neither the map's model nor the evidence knows one of its words"

    def _labels_of_siblings(self, at: int, siblings: Sequence[Sequence[int]]) -> list[str]:
        group = next((group for group in siblings if at in group), ())
        return [self.named.labels[one].label for one in group if one != at]

    def _resolve_duplicates(self, group: Sequence[int]) -> None:
        """Among siblings with equal labels the largest keeps it; the others fall back to their keyphrases."""
        seen: dict[str, int] = {}
        for at in sorted(group, key=lambda at: (not self._is_own(at), -self._evidence[at].size, at)):
            sense = sense_of(self.named.labels[at].label)
            if sense in seen and self._is_own(at):
                same = self.named.labels[seen[sense]].label
                self.named.labels[at] = _fallback(
                    self._evidence[at],
                    f"it is a sibling's label: {self.named.labels[at].label!r} says the same as its sibling's {same!r}",
                )
            seen.setdefault(sense, at)

    def _sibling_follow_up(self, members: list[int], other_labels: Sequence[str]) -> FollowUp[SiblingGroup]:
        evidence = [self._evidence[at] for at in members]
        labels = [self.named.labels[at].label for at in members]
        key = follow_up_key(self._identity, evidence, {"distinguish": labels})
        return FollowUp(
            key=key, members=members, asked=SiblingGroup(members=evidence, labels=labels, other_labels=other_labels)
        )

    def _rejected_follow_up(self, at: int, reason: str, other_labels: Sequence[str]) -> FollowUp[RejectedLabel]:
        one, label = self._evidence[at], self.named.labels[at].label
        key = follow_up_key(self._identity, [one], {"reconsider": label})
        return FollowUp(
            key=key,
            members=[at],
            asked=RejectedLabel(evidence=one, label=label, reason=reason, other_labels=other_labels),
        )

    def _ask_follow_ups(
        self,
        rounds: Sequence[FollowUp[Asked]],
        ask: Callable[[ModelLabeler, Sequence[Asked]], Iterator[tuple[int, Answers]]],
    ) -> list[tuple[FollowUp[Asked], Answers]]:
        """Return the answers of follow-up questions, each of which has one receipt, so that none is paid for twice."""
        found: list[tuple[FollowUp[Asked], Answers]] = []
        missing: list[FollowUp[Asked]] = []
        for one in rounds:
            kept = self._read_label(one.key)
            if kept is None:
                missing.append(one)
            else:
                found.append((one, [_answer_from_json(values) for values in kept.details["answers"]]))
            if self._keeps:
                for at in one.members:
                    self.named.later[at].append(one.key)
        if not missing:
            return found
        labeler: Any = self.labeler
        batches = [missing[start : start + labeler.batch] for start in range(0, len(missing), labeler.batch)]

        def answered(batch: Sequence[FollowUp[Asked]]) -> list[tuple[FollowUp[Asked], Answers]]:
            mine: list[tuple[FollowUp[Asked], Answers]] = []
            for number, answers in ask(labeler, [one.asked for one in batch]):
                self._write_follow_up(batch[number].key, answers)
                mine.append((batch[number], answers))
            return mine

        for done in run_concurrently([partial(answered, batch) for batch in batches], labeler.concurrency, self.stop):
            self.named.again += len(done)
            found += done
        return found

    def _write_follow_up(self, key: str, answers: Answers) -> None:
        if not self._keeps or not all(isinstance(one, Label) or one.final for one in answers):
            return
        details = {"answers": [_answer_to_json(one) for one in answers], "again": self._again}
        refused = not any(isinstance(one, Label) for one in answers)
        source = str(self._identity["name"])
        write_receipt(self._store, key, Label(label="", source=source, details=details | {"refused": refused}))

    def _read_label(self, key: str | None) -> Label | None:
        if key is None or key not in self._kept:
            return None
        kept = read_receipt(self._store, key)
        refused = kept.details.get("refused", False)
        return None if refused and int(kept.details.get("again", 0)) < self._again else kept

    def _write_answer(self, key: str, answer: Label | NoLabel | None) -> None:
        if isinstance(answer, Label):
            write_receipt(self._store, key, answer)
        elif isinstance(answer, NoLabel) and answer.final:
            details = {"refused": True, "again": self._again}
            write_receipt(self._store, key, Label(label="", source="none", details=details, reason=answer.reason))

    def _label_of(self, at: int, answer: Label | NoLabel | None) -> Label:
        if isinstance(answer, Label):
            return answer
        reason = answer.reason if answer is not None else f"{self._identity['name']} has no label for it"
        return _fallback(self._evidence[at], reason)


def _iter_answers(labeler: Any, evidence: Sequence[ClusterEvidence]) -> Iterator[tuple[int, Label | NoLabel | None]]:
    """Yield (position, answer), as they arrive if the labeler supports that."""
    each = getattr(labeler, "label_each", None)
    if each is not None:
        yield from each(evidence)
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
    work: Sequence[Callable[[], Found]], concurrency: int, stop: Callable[[], None]
) -> Iterator[Found]:
    """Run functions in up to ``concurrency`` threads and yield results as they finish; a failure stops new starts.

    Raises
    ------
    Exception
        The first failure, ignoring work that was stopped because of another one.
    """
    pool = ThreadPoolExecutor(max(1, concurrency), thread_name_prefix="labels")
    waiting, running = iter(work), set[Future[Found]]()
    failures: list[BaseException] = []
    try:
        while True:
            while not failures and len(running) < concurrency and (one := next(waiting, None)) is not None:
                running.add(pool.submit(one))
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
        raise next((one for one in failures if not isinstance(one, StoppedError)), failures[0])
