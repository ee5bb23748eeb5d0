"""Check that a corpus has documents, and not too many rejected rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import chain, islice

import numpy as np

from latentscale.config import IngestConfig
from latentscale.errors import CorpusError, RejectLimitError
from latentscale.readers.documents import NOT_COMPARABLE, TEXT_HINT
from latentscale.readers.shard import EXAMPLES
from latentscale.readers.streams import ENCODING_ADVICE
from latentscale.storage.receipts import Receipts


def check_rejects(
    receipts: Receipts,
    ingest: IngestConfig,
    *,
    alone: bool = True,
    described: Callable[[str], str] | None = None,
    on_map: int | None = None,
) -> None:
    """Check that a corpus has documents, and not too many rejected rows.

    Rows excluded by ``where``, or for which it cannot be evaluated, are not counted. ``alone``: these are all shards;
    shards added to others may be empty. ``described``: returns a readable name of a shard, given its key. ``on_map``:
    width of the vectors of the map that grows by these shards.

    Raises
    ------
    RejectLimitError
        If more than ``max_reject_fraction`` of the rows are rejects.
    CorpusError
        If there is no document, or the vectors differ in width, among themselves or from those of the map.
    """
    reasons = receipts.sum_by_key("reasons")
    unknown = reasons.pop(NOT_COMPARABLE, 0)
    rows = receipts.total("rows_in") - receipts.total("unwanted") - unknown
    rejected, documents = receipts.total("rejected") - unknown, receipts.total("rows")
    if rejected and (rejected > ingest.max_reject_fraction * rows or (not documents and rejected == rows)):
        some = chain.from_iterable(examples for examples, _ in receipts.distinct("examples"))
        where = "; ".join(islice(some, EXAMPLES))
        counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(4))
        if not documents and rejected == rows:
            raise CorpusError(f"all {rows:,} rows are rejected: {counts}", where=where, hint=_advice(reasons))
        raise RejectLimitError(
            f"{rejected:,} of {rows:,} rows ({rejected / rows:.1%}) are rejected, more than "
            f"ingest.max_reject_fraction = {ingest.max_reject_fraction:.1%}: {counts}",
            where=where,
            hint=_advice(reasons) + " Or allow more: --set ingest.max_reject_fraction=0.5.",
        )
    if not documents and alone:
        unwanted = receipts.total("unwanted")
        left_out = receipts.total("filtered")
        if left_out or unknown:
            raise CorpusError(
                f"no document is left: of {receipts.total('rows_in'):,} rows, corpus.where leaves out "
                f"{unwanted:,} and cannot be evaluated for {unknown:,}, corpus.sample leaves out "
                f"{left_out - unwanted:,}, and {rejected:,} are rejected",
                hint="Loosen the condition or the sample.",
            )
        raise CorpusError("the corpus has no rows", hint="Name files that hold some.")
    widths, places = np.unique(receipts.numbers("vector_width"), return_index=True)
    found = [
        f"{width:,} in {described(str(receipts.keys[place].as_py()))}" if described else f"{width:,}"
        for width, place in zip(widths.tolist(), places.tolist(), strict=True)
        if width
    ]
    if on_map is not None and any(width and width != on_map for width in widths.tolist()):
        raise CorpusError(
            f"the vectors have another width than those of the map, {on_map:,}: {', '.join(found)}",
            hint="A map grows by vectors of the model that it was made with; vectors of another one make a new map, in "
            "another folder.",
        )
    if len(found) > 1:
        raise CorpusError(
            f"the vectors have different widths: {', '.join(found)}", hint="Every vector must come from one model."
        )


def _advice(reasons: Counter[str]) -> str:
    most = reasons.most_common(1)[0][0]
    written = (
        "Compare some of these lines with the header: the delimiter (--set corpus.delimiter=';'), the quotes "
        "(corpus.quote, corpus.escape='\\' where a backslash is before them), lines before the header "
        "(corpus.skip_lines), a header that is none (corpus.header=false)."
    )
    lines = "Each line must be one JSON object."
    return {
        "undecodable": f"If the files are not UTF-8: {ENCODING_ADVICE}",
        "ragged": written,
        "bad_quoting": written,
        "not_json": lines,
        "not_an_object": lines,
        "not_text": TEXT_HINT,
        "too_long": "Split long texts, or raise ingest.max_text_characters.",
    }.get(most, "Look at the rows, or name another text column.")
