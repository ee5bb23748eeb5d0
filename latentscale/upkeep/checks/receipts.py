"""Check the receipts: tables with the facts of finished shards, and cached labels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from latentscale.errors import LatentScaleError
from latentscale.labelers import receipts as label_receipts
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer, read_parquet
from latentscale.storage.receipts import FOLDER
from latentscale.upkeep.checks.report import Check
from latentscale.upkeep.checks.shards import DocumentShard, VectorShard

DOCUMENTS = "documents"
HINT = "latentscale repair WORKSPACE deletes it; the next run reads the shards themselves and writes another one."
LABEL_HINT = "latentscale repair WORKSPACE deletes it; the cluster is named again when it is asked for."
_LABEL_KEY = re.compile(r"[0-9a-f]{32}")


def receipt_groups(check: Check) -> set[str]:
    """Groups of the tables of receipts: ``documents``, and ids of embeddings."""
    return {name.split("/")[1] for name in check.listing if name.startswith(f"{FOLDER}/")}


def check_receipts(check: Check, group: str, shards: Mapping[str, DocumentShard] | Mapping[str, VectorShard]) -> None:
    """Check the receipt tables of a group of shards against the intact shards, given by key.

    Receipts of deleted shards are not faults: a run uses only receipts of shards in its listing.
    """
    names = [name for name in check.listing if name.startswith(f"{FOLDER}/{group}/")]
    for _ in check.each(lambda name: _table(check, name, group, shards), names):
        pass


def _table(
    check: Check, name: str, group: str, shards: Mapping[str, DocumentShard] | Mapping[str, VectorShard]
) -> None:
    check.count(name)
    try:
        footer = read_footer(check.store, name)
        if footer.facts.get("kind") != "receipts" or footer.facts.get("group") != group:
            check.fault(name, f"is no table of receipts of {group}", HINT)
            return
        if not {"key", "rows"} <= set(footer.schema.names):
            check.report.notes.append(f"{name} was made by another version and is not used.")
            return
        if check.quick:
            return
        if name != f"{FOLDER}/{group}/{_sha256(check.store, name)[:16]}.parquet":
            check.fault(name, "is not what was written: its checksum is not its name", HINT)
            return
        table = read_parquet(check.store, name, ["key", "rows"])
    except LatentScaleError as error:
        check.fault(name, f"cannot be read: {error.message.removeprefix(name).strip()}", HINT)
        return
    for key, rows in zip(table["key"].to_pylist(), table["rows"].to_pylist(), strict=True):
        if key in shards and shards[key].rows != rows:
            check.fault(name, f"has {rows:,} rows for the shard {key}, which holds {shards[key].rows:,}", HINT)
            return


def _sha256(store: Store, name: str) -> str:
    state = hashlib.sha256()
    with store.open(name) as stream:
        while chunk := stream.read(1 << 22):
            state.update(chunk)
    return state.hexdigest()


def check_label_receipts(check: Check) -> None:
    """Check that each label receipt has the right key and is intact."""
    names = [name for name in check.listing if name.startswith(f"{label_receipts.FOLDER}/")]
    for _ in check.each(lambda name: _label(check, name), names):
        pass


def _label(check: Check, name: str) -> None:
    check.count(name)
    key = label_receipts.key_of(name)
    if _LABEL_KEY.fullmatch(key) is None or name != label_receipts.receipt_name(key):
        check.fault(name, "has a name that no receipt of a label has", LABEL_HINT)
        return
    if check.quick:
        return
    try:
        label_receipts.read_receipt(check.store, key)
    except LatentScaleError as error:
        check.fault(name, f"cannot be used: {error.message.removeprefix(name).strip()}", LABEL_HINT)
