"""Name clusters: ask for what no receipt has, tell siblings apart, test labels, and fall back to keyphrases."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from latentscale.labelers.checks import equivalent_labels, fault_of_label, sense_of, shares_a_word
from latentscale.labelers.held_out import HeldOut, HeldOutTest
from latentscale.labelers.model import Doubt, ModelLabeler, Siblings
from latentscale.labelers.protocol import ClusterEvidence, Label, Labeler, NoLabel
from latentscale.labelers.receipts import FOLDER, key_of, read_receipt, receipt_key, round_key, write_receipt
from latentscale.services.failures import StoppedError
from latentscale.storage.objects import Store

Found = TypeVar("Found")
Asked = TypeVar("Asked", Doubt, Siblings)
Answers = Sequence["Label | NoLabel"]

# Siblings that are named again in one request at most.
_TOGETHER = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Round(Generic[Asked]):
    """A further question about clusters.

    Attributes
    ----------
    key : str
        Of its receipt.
    members : list of int
        The clusters, by their position.
    asked : Doubt or Siblings
    """

    key: str
    members: list[int]
    asked: Asked


@dataclass(slots=True, kw_only=True)
class Named:
    """The labels of clusters, in the order of their evidence.

    Attributes
    ----------
    labels : list of Label
    receipts : list of str or None
        Of the first answers; None from a labeler that keeps none.
    later : list of list of str
        Receipts of further answers about a cluster.
    held_out : list of float or None
        Share of held-out documents that are nearest to their label; None where that was not measured.
    asked : int
        Clusters that the labeler was asked for; those that a receipt names are not among them.
    again : int
        Further requests: siblings that were told apart, and labels that failed a test.
    """

    labels: list[Label]
    receipts: list[str | None]
    later: list[list[str]]
    held_out: list[float | None]
    asked: int = 0
    again: int = 0


class Naming:
    """Names clusters by one labeler.

    Parameters
    ----------
    store : Store
        Of the receipts.
    open_labeler : callable
        Opens the labeler; called when something is asked for.
    identity : mapping
        Of the labeler, with its name.
    keeps_receipts : bool
    evidence : sequence of ClusterEvidence
    settled : mapping of int to Label, optional
        Labels of clusters, by their position, that are not asked about.
    again : int
        Answers that were no label are asked for again where this is more than it was then.
    progress : callable
        Told (done, total), in clusters.
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
        self.named = Named(
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
        """The labeler, opened when it is first needed."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    @property
    def opened(self) -> Any:
        """The labeler, or None where nothing had to be asked."""
        return self._opened

    def ask(self) -> None:
        """Have each cluster named, except those that a receipt names already."""
        named, evidence = self.named, self._evidence
        missing: list[int] = []
        for at, key in enumerate(named.receipts):
            if at in self._settled:
                continue
            kept = self._receipt(key)
            if kept is None:
                missing.append(at)
            else:
                named.labels[at] = kept if kept.label else _fallback(evidence[at], kept.reason)
        if not missing:
            return
        labeler: Labeler = self.labeler
        # Of clusters with the same evidence, as those of copies of one text, the first is asked for.
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
            for number, answer in _answers_of(labeler, [evidence[at] for at in batch]):
                key = named.receipts[batch[number]]
                if key is not None:
                    self._keep(key, answer)
                found.append((batch[number], answer))
            return found

        for found in in_parallel([partial(name, batch) for batch in batches], labeler.concurrency, self.stop):
            for asked, answer in found:
                for at in copies[asked]:
                    named.labels[at] = self._label_of(at, answer)
                done += len(copies[asked])
            self._progress(done, len(evidence))

    def distinguish(self, siblings: Sequence[Sequence[int]]) -> None:
        """Ask once more about siblings whose labels say the same, all of a parent in one request.

        Parameters
        ----------
        siblings : sequence of sequence of int
            The clusters of each parent.
        """
        rounds: list[Round[Siblings]] = []
        for group in siblings:
            labels = [self.named.labels[at].label for at in group]
            same = [group[at] for one in equivalent_labels(labels) for at in one]
            again = [at for at in same if self._is_own(at)]
            taken = [self.named.labels[at].label for at in group if at not in set(again)]
            rounds += [
                self._to_distinguish(again[start : start + _TOGETHER], taken)
                for start in range(0, len(again), _TOGETHER)
            ]

        def ask(labeler: ModelLabeler, groups: Sequence[Siblings]) -> Iterator[tuple[int, Answers]]:
            return labeler.distinguish(groups)

        for one, answers in self._further(rounds, ask):
            for at, answer in zip(one.members, answers, strict=True):
                if isinstance(answer, Label):
                    self.named.labels[at] = answer
        for group in siblings:
            self._refuse_equals(group)

    def test(self, held_out: HeldOutTest, siblings: Sequence[Sequence[int]]) -> None:
        """Try the labels on held-out documents; ask once more for those that fail, then fall back to keyphrases.

        Parameters
        ----------
        siblings : sequence of sequence of int
            The clusters of each parent.
        """
        named = self.named
        own = [at for at in range(len(named.labels)) if self._is_own(at)]
        first = self._tried(held_out, own)
        failing = [at for at in own if self._fault(at, first.get(at), held_out) is not None]
        rounds = [
            self._to_reconsider(at, str(self._fault(at, first.get(at), held_out)), self._taken(at, siblings))
            for at in failing
        ]

        def ask(labeler: ModelLabeler, doubts: Sequence[Doubt]) -> Iterator[tuple[int, Answers]]:
            return ((number, [answer]) for number, answer in labeler.reconsider(doubts))

        for one, (answer, *_) in self._further(rounds, ask):
            if isinstance(answer, Label):
                named.labels[one.members[0]] = answer
        second = self._tried(held_out, own)
        for at in failing:
            reason = self._fault(at, second.get(at), held_out)
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
            self._refuse_equals(group)
        everything = list(range(len(named.labels)))
        for at, score in self._tried(held_out, everything).items():
            named.held_out[at] = round(score.share, 4)

    def stop(self) -> None:
        """Have a service send no further request."""
        stop = getattr(self._opened, "stop", None)
        if stop is not None:
            stop()

    def _is_own(self, at: int) -> bool:
        return self.named.labels[at].source == self._identity["name"]

    def _tried(self, held_out: HeldOutTest, wanted: Sequence[int]) -> dict[int, HeldOut]:
        return held_out.try_labels([one.label for one in self.named.labels], wanted)

    def _fault(self, at: int, score: HeldOut | None, held_out: HeldOutTest) -> str | None:
        """Why the label of a cluster fails, or None."""
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

    def _taken(self, at: int, siblings: Sequence[Sequence[int]]) -> list[str]:
        group = next((group for group in siblings if at in group), ())
        return [self.named.labels[one].label for one in group if one != at]

    def _refuse_equals(self, group: Sequence[int]) -> None:
        """Of siblings with one label the largest keeps it; the others go by their keyphrases."""
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

    def _to_distinguish(self, members: list[int], taken: Sequence[str]) -> Round[Siblings]:
        evidence = [self._evidence[at] for at in members]
        labels = [self.named.labels[at].label for at in members]
        key = round_key(self._identity, evidence, {"distinguish": labels})
        return Round(key=key, members=members, asked=Siblings(members=evidence, labels=labels, taken=taken))

    def _to_reconsider(self, at: int, reason: str, taken: Sequence[str]) -> Round[Doubt]:
        one, label = self._evidence[at], self.named.labels[at].label
        key = round_key(self._identity, [one], {"reconsider": label})
        return Round(key=key, members=[at], asked=Doubt(evidence=one, label=label, reason=reason, taken=taken))

    def _further(
        self,
        rounds: Sequence[Round[Asked]],
        ask: Callable[[ModelLabeler, Sequence[Asked]], Iterator[tuple[int, Answers]]],
    ) -> list[tuple[Round[Asked], Answers]]:
        """Answers of further questions: one receipt holds all of a question, so that none is paid twice."""
        found: list[tuple[Round[Asked], Answers]] = []
        missing: list[Round[Asked]] = []
        for one in rounds:
            kept = self._receipt(one.key)
            if kept is None:
                missing.append(one)
            else:
                found.append((one, [_answer_of(values) for values in kept.details["answers"]]))
            if self._keeps:
                for at in one.members:
                    self.named.later[at].append(one.key)
        if not missing:
            return found
        labeler: Any = self.labeler
        batches = [missing[start : start + labeler.batch] for start in range(0, len(missing), labeler.batch)]

        def answered(batch: Sequence[Round[Asked]]) -> list[tuple[Round[Asked], Answers]]:
            mine: list[tuple[Round[Asked], Answers]] = []
            for number, answers in ask(labeler, [one.asked for one in batch]):
                self._keep_round(batch[number].key, answers)
                mine.append((batch[number], answers))
            return mine

        for done in in_parallel([partial(answered, batch) for batch in batches], labeler.concurrency, self.stop):
            self.named.again += len(done)
            found += done
        return found

    def _keep_round(self, key: str, answers: Answers) -> None:
        if not self._keeps or not all(isinstance(one, Label) or one.final for one in answers):
            return
        details = {"answers": [_values_of(one) for one in answers], "again": self._again}
        refused = not any(isinstance(one, Label) for one in answers)
        source = str(self._identity["name"])
        write_receipt(self._store, key, Label(label="", source=source, details=details | {"refused": refused}))

    def _receipt(self, key: str | None) -> Label | None:
        if key is None or key not in self._kept:
            return None
        kept = read_receipt(self._store, key)
        refused = kept.details.get("refused", False)
        return None if refused and int(kept.details.get("again", 0)) < self._again else kept

    def _keep(self, key: str, answer: Label | NoLabel | None) -> None:
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


def _answers_of(labeler: Any, evidence: Sequence[ClusterEvidence]) -> Iterator[tuple[int, Label | NoLabel | None]]:
    """Each answer with its position: as they come, where the labeler says them one by one."""
    each = getattr(labeler, "label_each", None)
    if each is not None:
        yield from each(evidence)
    else:
        yield from zip(range(len(evidence)), labeler.label(evidence), strict=True)


def _fallback(evidence: ClusterEvidence, reason: str) -> Label:
    """The label by keyphrases, and why it is that one."""
    return Label(label=evidence.suggestion, source="keyphrases" if evidence.keyphrases else "none", reason=reason)


def _values_of(answer: Label | NoLabel) -> dict[str, Any]:
    if isinstance(answer, NoLabel):
        return {"reason": answer.reason}
    return {
        "label": answer.label,
        "source": answer.source,
        "details": dict(answer.details),
        "description": answer.description,
        "confidence": answer.confidence,
    }


def _answer_of(values: Mapping[str, Any]) -> Label | NoLabel:
    if "label" not in values or fault_of_label(str(values["label"])) is not None:
        return NoLabel(reason=str(values.get("reason", "it is no label")), final=True)
    return Label(**values)


def in_parallel(work: Sequence[Callable[[], Found]], concurrency: int, stop: Callable[[], None]) -> Iterator[Found]:
    """Do so much at a time, and yield what is done as it comes; after a failure nothing is begun.

    Raises
    ------
    Exception
        The first failure that is not the end of work which another one stopped.
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
