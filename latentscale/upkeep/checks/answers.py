"""Check the cached answers of an embedding service for unfinished shards, and the spending records."""

from __future__ import annotations

from latentscale.errors import LatentScaleError, MissingObjectError
from latentscale.storage.answers import FOLDER, is_answer_name, read_answer
from latentscale.storage.spending import FOLDER as SPENDING
from latentscale.storage.spending import read_spent
from latentscale.upkeep.checks.report import Check

HINT = "latentscale repair WORKSPACE deletes it; its texts are asked for again."
SPENDING_HINT = "latentscale repair WORKSPACE deletes it: it is a count of a run that has ended."


def check_answers(check: Check) -> None:
    """Check that each answer has the right name and is intact; a run may delete some meanwhile."""
    names = [name for name in check.listing if name.startswith((f"{FOLDER}/", f"{SPENDING}/"))]
    for _ in check.each(lambda name: _check(check, name), names):
        pass


def _check(check: Check, name: str) -> None:
    check.count(name)
    spending = name.startswith(f"{SPENDING}/")
    if not spending and not is_answer_name(name):
        check.fault(name, "has a name that no answer of an embedding service has", HINT)
        return
    if check.quick:
        return
    try:
        if spending:
            read_spent(check.store, name)
        else:
            read_answer(check.store, name)
    except MissingObjectError:
        return
    except LatentScaleError as error:
        hint = SPENDING_HINT if spending else HINT
        check.fault(name, f"cannot be used: {error.message.removeprefix(name).strip()}", hint)
