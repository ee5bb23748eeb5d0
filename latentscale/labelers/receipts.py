"""Receipts of labels: one small object for each answer, named by the digest of labeler and evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from latentscale.digest import digest, digest_bytes
from latentscale.errors import DamagedObjectError
from latentscale.labelers.protocol import ClusterEvidence, Label
from latentscale.storage.objects import Store

FOLDER = "label-receipts"
VERSION = 1


def receipt_key(labeler: Mapping[str, Any], evidence: ClusterEvidence) -> str:
    """Return the key of a label: digest of the labeler (with prompt and model) and the evidence, 32 hex characters."""
    return digest({"version": VERSION, "labeler": dict(labeler), "evidence": evidence.identity()})


def follow_up_key(labeler: Mapping[str, Any], members: Sequence[ClusterEvidence], question: Mapping[str, Any]) -> str:
    """Return the key of a labeler's answer to a follow-up question about one or several clusters.

    Parameters
    ----------
    question : mapping
        The type of the question, with the labels that it contains.
    """
    return digest(
        {
            "version": VERSION,
            "labeler": dict(labeler),
            "evidence": [cluster.identity() for cluster in members],
            "said": dict(question),
        }
    )


def receipt_name(key: str) -> str:
    """Return the object name of a receipt."""
    return f"{FOLDER}/{key[:2]}/{key}.json"


def key_of(name: str) -> str:
    """Return the key of the receipt with the object name ``name``."""
    return name.rsplit("/", 1)[-1].removesuffix(".json")


def write_receipt(store: Store, key: str, label: Label) -> None:
    """Write the receipt of a label."""
    document: dict[str, Any] = {
        "schema": VERSION,
        "label": label.label,
        "source": label.source,
        "details": dict(label.details),
    }
    # Only if set, so that receipts without them are byte-identical to those of earlier versions.
    for name in ("description", "confidence", "reason"):
        value = getattr(label, name)
        if value not in ("", None):
            document[name] = value
    data = json.dumps(document | {"digest": _digest(document)}, ensure_ascii=False).encode()
    store.put_bytes(receipt_name(key), data)


def _digest(document: Mapping[str, Any]) -> str:
    return digest_bytes([json.dumps(document, ensure_ascii=False).encode()])


def read_receipt(store: Store, key: str) -> Label:
    """Read the label of a receipt.

    Raises
    ------
    DamagedObjectError
        If the object is malformed, or its digest does not match.
    """
    name = receipt_name(key)
    try:
        values = json.loads(store.read_bytes(name))
        if values.pop("digest") != _digest(values):
            raise ValueError("its digest is that of another one")
        confidence = values.get("confidence")
        return Label(
            label=str(values["label"]),
            source=str(values["source"]),
            details=dict(values["details"]),
            description=str(values.get("description", "")),
            confidence=None if confidence is None else float(confidence),
            reason=str(values.get("reason", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedObjectError(
            f"{name} is not the receipt of a label: {error}",
            where=store.path(name),
            hint="Delete that object and run the same command again: the cluster is named again.",
        ) from error
