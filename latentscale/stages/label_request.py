"""The request of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latentscale.storage.request import Request, not_in_identity, omitted_at_default


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsRequest(Request):
    """Everything that affects the labels.

    ``transport`` holds options of the labeler that do not affect them: address, key, pace, prices.
    """

    VERSION: ClassVar[int] = 4

    clusters: str
    text: str
    method: str
    max_keyphrases: int
    exemplars: int
    max_documents_per_cluster: int
    seed: int
    labeler: Mapping[str, Any]
    options: Mapping[str, Any] = omitted_at_default({})
    ngram_range: tuple[int, int] = omitted_at_default((1, 3))
    stop_words: tuple[str, ...] = omitted_at_default(())
    edits: tuple[Mapping[str, Any], ...] = omitted_at_default(())
    transport: Mapping[str, Any] = not_in_identity({})
