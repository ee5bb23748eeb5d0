"""Migration of a workspace of an earlier schema: the settings of its last run, converted to this version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel

from latentscale.config import READ_SCHEMAS, SCHEMA_VERSION, job_model
from latentscale.errors import DamagedObjectError, WorkspaceError
from latentscale.storage.head import NAME as HEAD
from latentscale.storage.objects import Store
from latentscale.storage.schema import check_schema
from latentscale.storage.workspace_record import OBJECT as WORKSPACE


def earlier_settings(store: Store) -> tuple[dict[str, Any], list[str]]:
    """The settings of the run that made the current map of a workspace of an earlier schema.

    Returns
    -------
    values : dict
        Nested settings of a job, without ``out``; sources are full paths.
    left_out : list of str
        Settings that this version does not have.

    Raises
    ------
    WorkspaceError
        If the workspace does not exist, or has the current schema or a later one.
    DamagedObjectError
        If its records cannot be read.
    """
    if not store.exists(WORKSPACE):
        raise WorkspaceError(f"{store.url} is not a workspace: it has no {WORKSPACE}")
    record = _read(store, WORKSPACE)
    schema = record.get("schema")
    if schema in READ_SCHEMAS:
        raise WorkspaceError(f"{store.url} has the schema {schema}, which this version reads: it needs no migration")
    if not isinstance(schema, int) or schema > SCHEMA_VERSION:
        check_schema(store, WORKSPACE, record)
    head = str(_read(store, HEAD).get("map")) if store.exists(HEAD) else None
    job: Mapping[str, Any] = {}
    for name in sorted(name for name in store.list("runs") if name.endswith("/run.json")):
        run = _read(store, name)
        made = (run.get("facts") or {}).get("artifacts") or {}
        if not job or head is None or made.get("publish") == head:
            job = run.get("job") or job
    left_out: list[str] = []
    values = _known({k: v for k, v in job.items() if k not in ("out", "name")}, job_model(), "", left_out)
    # Runs of that schema recorded sources as they were typed.
    values["corpus"] = {**values.get("corpus", {}), "sources": record["corpus"]["sources"]}
    return values | {"name": record["name"]}, left_out


def _read(store: Store, name: str) -> dict[str, Any]:
    try:
        values: object = json.loads(store.read_bytes(name))
        if isinstance(values, dict):
            return cast(dict[str, Any], values)
    except ValueError:
        pass
    raise DamagedObjectError(f"{name} is damaged", where=store.path(name))


def _known(values: Mapping[str, Any], model: type[BaseModel], path: str, left_out: list[str]) -> dict[str, Any]:
    """The values of the fields that ``model`` has; names of unknown fields are appended to ``left_out``."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        field = model.model_fields.get(name)
        if field is None:
            left_out.append(f"{path}{name}")
        elif (
            isinstance(value, Mapping)
            and isinstance(field.annotation, type)
            and issubclass(field.annotation, BaseModel)
        ):
            found[name] = _known(cast(Mapping[str, Any], value), field.annotation, f"{path}{name}.", left_out)
        else:
            found[name] = value
    return found
