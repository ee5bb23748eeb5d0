"""Ingest: the files of a corpus become shards of documents, each of which is also the receipt of its work."""

from latentscale.readers.check import CorpusCheck, check_corpus
from latentscale.readers.columns import conform, stored_id_column, stored_text_column, unify_columns
from latentscale.stages.ingest.limits import check_rejects
from latentscale.stages.ingest.plan import group_members, plan_ingest, settled_fingerprint
from latentscale.stages.ingest.receipts import (
    FOLDER,
    LAST,
    REJECTS,
    ShardReceipt,
    finished_receipts,
    in_input_order,
    pending_units,
    read_receipt,
    reject_name,
    shard_frame,
    shard_key,
    units_without,
    with_known_shards,
)
from latentscale.stages.ingest.units import IngestUnit, UnitTable
from latentscale.stages.ingest.worker import IngestWorker

__all__ = [
    "FOLDER",
    "LAST",
    "REJECTS",
    "CorpusCheck",
    "IngestUnit",
    "IngestWorker",
    "ShardReceipt",
    "UnitTable",
    "check_corpus",
    "check_rejects",
    "conform",
    "finished_receipts",
    "group_members",
    "in_input_order",
    "pending_units",
    "plan_ingest",
    "read_receipt",
    "reject_name",
    "settled_fingerprint",
    "shard_frame",
    "shard_key",
    "stored_id_column",
    "stored_text_column",
    "unify_columns",
    "units_without",
    "with_known_shards",
]
