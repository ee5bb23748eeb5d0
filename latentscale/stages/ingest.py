"""Ingest: the files of a corpus become shards of documents, each of which is the receipt of its own work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError, RejectLimitError
from latentscale.readers import read_input
from latentscale.readers.check import CorpusCheck, check_corpus
from latentscale.readers.columns import (
    candidate_types,
    conform,
    stored_id_column,
    stored_name,
    stored_text_column,
    unify_columns,
)
from latentscale.readers.documents import DOCUMENT, DocumentMaker
from latentscale.readers.shard import EXAMPLES, REJECT_SCHEMA, Shard
from latentscale.stages.ingest_plan import (
    VERSION,
    IngestUnit,
    KeyIndex,
    UnitTable,
    group_members,
    plan_ingest,
    stage_digest,
)
from latentscale.storage.columns import BATCH, indices
from latentscale.storage.inputs import check_as_listed
from latentscale.storage.listing import Listing
from latentscale.storage.objects import Store
from latentscale.storage.parquet import Footer, read_footer, write_parquet
from latentscale.storage.snapshots import Snapshot, document_name, read_footers

__all__ = [
    "CorpusCheck",
    "IngestUnit",
    "IngestWorker",
    "ShardReceipt",
    "UnitTable",
    "check_corpus",
    "check_rejects",
    "conform",
    "group_members",
    "in_input_order",
    "pending_units",
    "plan_ingest",
    "read_receipt",
    "read_receipts",
    "shard_frame",
    "stored_id_column",
    "stored_text_column",
    "unify_columns",
    "units_without",
    "with_known_shards",
]

FOLDER = "documents"
REJECTS = "rejects"
LAST = "e"
"""Ends the key of a unit's last shard, so that a listing alone says whether the unit is complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReceipt:
    """What one shard of documents holds; all but ``seconds`` can be read from its footer.

    Attributes
    ----------
    key, name : str
        ``<unit key>-<5 digits>``, with an ``e`` at the end of the unit's last; ``documents/<kk>/<key>.parquet``.
    unit : str
    index : int
    last : bool
    rows : int
        Documents.
    rows_in : int
        Rows that were read for it: documents, rejects and filtered rows.
    rejected, filtered : int
        Rows set aside, and rows that ``where`` or ``sample`` left out.
    unwanted : int
        Those of the filtered that ``where`` left out.
    reasons : dict of str to int
        Rejects by reason.
    examples : list of str
        The first few rejects: ``file:row reason``.
    bytes : int
        Of the object.
    columns : list of str
        Stored source columns.
    renamed : dict of str to str
        Source columns that are stored under another name.
    vector_width : int or None
    seconds : float
        0 where the shard was there already.
    """

    key: str
    name: str
    unit: str
    index: int
    last: bool
    rows: int
    rows_in: int
    rejected: int
    filtered: int
    unwanted: int
    reasons: dict[str, int]
    examples: list[str]
    bytes: int
    columns: list[str]
    renamed: dict[str, str]
    vector_width: int | None = None
    seconds: float = 0.0


# ------------------------------------------------------------------------------------------------ what is there already


def shard_key(unit: str, index: int, *, last: bool) -> str:
    """Key of a unit's shard."""
    return f"{unit}-{index:05d}{LAST if last else ''}"


def reject_name(key: str) -> str:
    """Object of the rows set aside with a shard of documents; it counts only where the shard is there."""
    return f"{REJECTS}/{key[:2]}/{key}.parquet"


def pending_units(units: UnitTable, listing: Listing) -> tuple[UnitTable, NDArray[np.int32]]:
    """Compare the plan with a listing of ``documents``; no object is read.

    Returns
    -------
    pending : UnitTable
        Units of which a shard is missing.
    done : int32 ndarray
        Places in ``listing.names`` of all shards of the other units, in input order.
    """
    listed, unit, index, last = _listed_shards(listing, units)
    order = np.lexsort((last, index, unit)).astype(np.int32)
    listed = listed[order]
    unit = unit[order]
    index = index[order]
    last = last[order]
    # The one that ends its unit counts where both names are there.
    twice = np.flatnonzero((unit[1:] == unit[:-1]) & (index[1:] == index[:-1]))
    if len(twice):
        listed, unit, index = (np.delete(column, twice) for column in (listed, unit, index))
        last = np.delete(last, twice)
    ends = np.full(len(units), -1, dtype=np.int32)
    np.maximum.at(ends, unit[last], index[last])
    inside = index <= ends[unit]
    there = np.bincount(unit[inside], minlength=len(units))
    whole = (ends >= 0) & (there == ends + 1)
    return units.take(np.flatnonzero(~whole)), listed[inside & whole[unit]]


def _listed_shards(
    listing: Listing, units: UnitTable
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Of each listed shard of ``units``: its place in the listing, its unit's place, its number, whether it is last."""
    pattern = pc.MatchSubstringOptions(rf"^{FOLDER}/[0-9a-f]{{2}}/[0-9a-f]{{32}}-[0-9]+{LAST}?\.parquet$")
    index = units.by_key
    pieces = [(np.empty(0, np.int32), *_NOTHING)]
    for begin in range(0, len(listing), BATCH):
        names = listing.names.slice(begin, BATCH)
        listed = np.flatnonzero(_called("match_substring_regex", names, pattern))
        keys = _sliced(names.take(indices(listed)), len(f"{FOLDER}/kk/"), -len(".parquet"))
        unit, number, last = _read_keys(pa.chunked_array([keys]), index)
        known = unit >= 0
        pieces.append(((listed[known] + begin).astype(np.int32), unit[known], number[known], last[known]))
    listed, unit, number, last = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return listed, unit, number, last


def _read_keys(
    keys: pa.ChunkedArray, index: KeyIndex
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Of each key of a shard: the place of its unit or -1, its number there, and whether it is the last."""
    pieces = [_NOTHING]
    for begin in range(0, len(keys), BATCH):
        some = pa.concat_arrays(keys.slice(begin, BATCH).cast(pa.large_string()).chunks)
        tails = _sliced(some, 33, None)
        last = _called("ends_with", tails, pc.MatchSubstringOptions(LAST))
        digits = pc.call_function("utf8_rtrim", [tails], pc.TrimOptions(LAST))
        pieces.append((index.places(_sliced(some, 0, 32)), digits.cast(pa.int32()).to_numpy(), last))
    unit, number, last = (np.concatenate(column) for column in zip(*pieces, strict=True))
    return unit, number, last


_NOTHING = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.bool_))


def _called(function: str, values: pa.Array, options: pc.FunctionOptions) -> NDArray[Any]:
    return pc.call_function(function, [values], options).to_numpy(zero_copy_only=False)


def _sliced(values: pa.Array, start: int, stop: int | None) -> pa.Array:
    return pc.call_function("utf8_slice_codeunits", [values], pc.SliceOptions(start, stop))


def read_receipts(store: Store, listing: Listing, done: NDArray[np.int32]) -> list[ShardReceipt]:
    """Read the receipts of listed shards, in their order.

    Parameters
    ----------
    done : int32 ndarray
        Places in ``listing.names``.
    """
    names: list[str] = listing.names.take(indices(done)).to_pylist()
    sizes = listing.sizes[done].tolist()
    footers = read_footers(store, names)
    return [_receipt(name, footer, size) for name, footer, size in zip(names, footers, sizes, strict=True)]


def read_receipt(store: Store, name: str) -> ShardReceipt:
    """Read the receipt of a shard of documents.

    Raises
    ------
    DamagedObjectError
        If the object is damaged.
    """
    info = store.info(name)
    return _receipt(name, read_footer(store, name), info.size if info else 0)


def in_input_order(units: UnitTable, receipts: Iterable[ShardReceipt]) -> list[ShardReceipt]:
    """Sort receipts by their unit's place in the plan, then by index: the order of documents in a snapshot."""
    found = list(receipts)
    places = units.places(pa.array([receipt.unit for receipt in found], pa.large_string()))
    order = np.lexsort((np.array([receipt.index for receipt in found], dtype=np.int64), places))
    return [found[place] for place in order.tolist()]


def shard_frame(receipts: Sequence[ShardReceipt]) -> pl.DataFrame:
    """``key``, ``rows`` and ``bytes`` of shards, as ``make_snapshot`` takes them."""
    return pl.DataFrame(
        {
            "key": [receipt.key for receipt in receipts],
            "rows": [receipt.rows for receipt in receipts],
            "bytes": [receipt.bytes for receipt in receipts],
        },
        schema={"key": pl.String, "rows": pl.Int64, "bytes": pl.Int64},
    )


def units_without(units: UnitTable, snapshot: Snapshot) -> UnitTable:
    """The units of which a snapshot has no shard; it lists whole units only, those without documents too."""
    place, number, last = _read_keys(_all_keys(snapshot), units.by_key)
    known = place >= 0
    counted = np.bincount(place[known], minlength=len(units))
    ends = np.full(len(units), -1, dtype=np.int64)
    ends[place[known & last]] = number[known & last]
    # A shard that was set aside is missing: its unit is looked at again.
    return units.take(np.flatnonzero((ends < 0) | (counted != ends + 1)))


def with_known_shards(new: pl.DataFrame, units: UnitTable, snapshot: Snapshot) -> pl.DataFrame:
    """Add to new shards those of a snapshot whose unit is still planned, in the order of the input."""
    known = _all_keys(snapshot)
    added = pa.array(new["key"], pa.string())
    again = pc.call_function("is_in", [known], pc.SetLookupOptions(added)).to_numpy()
    keys = pa.chunked_array([*known.chunks, added], pa.string())
    nothing = np.zeros(len(snapshot.empty), dtype=np.int64)
    place, number, _ = _read_keys(keys, units.by_key)
    order = np.lexsort((number, place))
    order = order[(place >= 0)[order] & ~np.append(again, np.zeros(len(new), dtype=bool))[order]]
    return pl.DataFrame(
        {
            "key": pl.Series(keys.take(indices(order))),
            "rows": np.concatenate([snapshot.shards.rows, nothing, new["rows"].to_numpy()])[order],
            "bytes": np.concatenate([snapshot.shards.bytes, nothing, new["bytes"].to_numpy()])[order],
        },
        schema=new.schema,
    )


def _all_keys(snapshot: Snapshot) -> pa.ChunkedArray:
    """Keys of the shards of a snapshot, with and without documents."""
    return pa.chunked_array([snapshot.shards.keys, pa.array(snapshot.empty, pa.string())], pa.string())


def _receipt(name: str, footer: Footer, size: int, *, seconds: float = 0.0) -> ShardReceipt:
    facts = footer.facts
    return ShardReceipt(
        key=name.rsplit("/", 1)[-1].removesuffix(".parquet"),
        name=name,
        unit=facts["unit"],
        index=facts["index"],
        last=facts["last"],
        rows=footer.rows,
        rows_in=facts["rows_in"],
        rejected=facts["rejected"],
        filtered=sum(facts["filtered"].values()),
        unwanted=facts["filtered"]["where"],
        reasons=facts["reasons"],
        examples=facts["examples"],
        bytes=size,
        columns=footer.schema.names[3:],
        renamed=facts["renamed"],
        vector_width=facts["vector_width"],
        seconds=seconds,
    )


# ------------------------------------------------------------------------------------------------------------- limits


def check_rejects(receipts: Sequence[ShardReceipt], ingest: IngestConfig, *, alone: bool = True) -> None:
    """Refuse a corpus of which too much had to be set aside, or nothing is left.

    Rows that ``where`` leaves out count on neither side. ``alone``: these are all shards; what is added to others may
    hold no document.

    Raises
    ------
    RejectLimitError
        If more than ``max_reject_fraction`` of the rows are rejects.
    CorpusError
        If there is no document, or the vectors differ in width.
    """
    rows = sum(receipt.rows_in - receipt.unwanted for receipt in receipts)
    rejected = sum(receipt.rejected for receipt in receipts)
    documents = sum(receipt.rows for receipt in receipts)
    reasons: Counter[str] = Counter()
    for receipt in receipts:
        reasons.update(receipt.reasons)
    examples = [example for receipt in receipts for example in receipt.examples][:EXAMPLES]
    counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(4))
    if rejected and not documents and rejected == rows:
        raise CorpusError(
            f"all {rows:,} rows are set aside: {counts}", where="; ".join(examples), hint=_advice(reasons)
        )
    if rejected > ingest.max_reject_fraction * rows:
        raise RejectLimitError(
            f"{rejected:,} of {rows:,} rows ({rejected / rows:.1%}) are set aside, more than "
            f"ingest.max_reject_fraction = {ingest.max_reject_fraction:.1%}: {counts}",
            where="; ".join(examples),
            hint=_advice(reasons) + " Or allow more: --set ingest.max_reject_fraction=0.5.",
        )
    if not documents and alone:
        unwanted = sum(receipt.unwanted for receipt in receipts)
        left_out = sum(receipt.filtered for receipt in receipts)
        if left_out:
            raise CorpusError(
                f"no document is left: of {sum(r.rows_in for r in receipts):,} rows, corpus.where leaves out "
                f"{unwanted:,}, corpus.sample {left_out - unwanted:,}, and {rejected:,} are set aside",
                hint="Loosen the condition or the sample.",
            )
        raise CorpusError("the corpus has no rows", hint="Name files that hold some.")
    widths = sorted({receipt.vector_width for receipt in receipts if receipt.vector_width})
    if len(widths) > 1:
        raise CorpusError(
            f"the vectors have different widths: {', '.join(map(str, widths))}",
            hint="Every vector must come from one model.",
        )


def _advice(reasons: Counter[str]) -> str:
    most = reasons.most_common(1)[0][0]
    return {
        "undecodable": "If the files are not UTF-8, name their encoding: --set corpus.encoding=cp1252.",
        "ragged": "Check the delimiter (--set corpus.delimiter=';') and the quotes.",
        "bad_quoting": "Check the delimiter (--set corpus.delimiter=';') and the quotes.",
        "not_json": "Each line must be one JSON object.",
        "not_an_object": "Each line must be one JSON object.",
        "too_long": "Split long texts, or raise ingest.max_text_characters.",
    }.get(most, "Look at the rows, or name another text column.")


# -------------------------------------------------------------------------------------------------------------- work


class IngestWorker:
    """Does units of ingest: reads, composes, sets aside, and writes each shard in one object.

    Parameters
    ----------
    store : Store
        The workspace.
    corpus : CorpusConfig
    ingest : IngestConfig
    """

    def __init__(self, store: Store, corpus: CorpusConfig, ingest: IngestConfig) -> None:
        self._store = store
        self._corpus = corpus
        self._ingest = ingest
        self._stage = stage_digest(corpus, ingest)

    def __call__(self, unit: IngestUnit) -> list[ShardReceipt]:
        """Write the shards of ``unit`` that are not there yet; returns the receipts of all.

        Raises
        ------
        LatentScaleError
            If the input or the store fails; shards that are written stay.
        """
        receipts: list[ShardReceipt] = []
        started = time.perf_counter()
        waiting: Shard | None = None
        # A shard is written when it is known whether another follows.
        for shard in self._shards(unit):
            if waiting is not None:
                receipts.append(self._write(unit, waiting, len(receipts), last=False, started=started))
                started = time.perf_counter()
            waiting = shard
        receipts.append(self._write(unit, waiting or Shard(), len(receipts), last=True, started=started))
        return receipts

    def _shards(self, unit: IngestUnit) -> Iterator[Shard]:
        maker = DocumentMaker(self._corpus, self._ingest)
        shard = Shard()
        left = self._corpus.limit
        for file in unit.inputs:
            for block in read_input(file, self._corpus, self._ingest, row_groups=unit.row_groups):
                documents = maker.make(block, file)
                ends = np.cumsum(documents.kind == DOCUMENT)
                stop = len(ends)
                if left is not None and stop and ends[-1] >= left:
                    # Rows after the last document that was asked for are not looked at.
                    stop = int(np.searchsorted(ends, left)) + 1
                begin = 0
                while begin < stop:
                    end = shard.room(documents, begin, stop, self._ingest)
                    if end > begin:
                        shard.take(documents, begin, end)
                        begin = end
                    if begin < stop:
                        yield shard.sealed(maker)
                        shard = Shard()
                if left is not None:
                    left -= int(ends[stop - 1]) if stop else 0
                    if left <= 0:
                        yield shard.sealed(maker)
                        return
        if shard.rows_in:
            yield shard.sealed(maker)

    def _write(self, unit: IngestUnit, shard: Shard, index: int, *, last: bool, started: float) -> ShardReceipt:
        key = shard_key(unit.key, index, last=last)
        name = document_name(key)
        found = self._store.info(name)
        if found is not None:
            return _receipt(name, read_footer(self._store, name), found.size)
        table = shard.table(self._corpus)
        facts = shard.facts() | {
            "kind": "documents",
            "version": VERSION,
            "unit": unit.key,
            "index": index,
            "last": last,
            "stage": self._stage,
            "text": stored_text_column(self._corpus),
            "id": stored_id_column(self._corpus),
            "vectors": stored_name(self._corpus.vectors, self._corpus) if self._corpus.vectors else None,
            "types": self._types(unit, table),
        }
        # What was read while somebody wrote must not become a shard that bears the name of what was listed.
        for file in unit.inputs:
            check_as_listed(file)
        if shard.rejects["source"]:
            rejects = pa.table(shard.rejects, schema=REJECT_SCHEMA)
            # Before the documents, whose object is the receipt of both.
            write_parquet(self._store, reject_name(key), rejects, facts={"kind": "rejects", "unit": unit.key})
        info = write_parquet(self._store, name, table, facts=facts)
        footer = Footer(rows=table.num_rows, facts=facts, schema=table.schema)
        return _receipt(name, footer, info.size, seconds=round(time.perf_counter() - started, 4))

    def _types(self, unit: IngestUnit, table: pa.Table) -> dict[str, list[str]]:
        """What the columns of text in CSV files could be; in other formats text is text."""
        if any(file.format not in ("csv", "tsv") for file in unit.inputs):
            return {}
        kept = {stored_text_column(self._corpus)}
        return {
            field.name: candidate_types(table.column(field.name))
            for field in table.schema
            if pa.types.is_string(field.type) and field.name not in kept
        }
