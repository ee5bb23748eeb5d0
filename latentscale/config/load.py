"""Read settings from files, the command line and Python, with errors that name the key, its source and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from latentscale.config.job import JobConfig, job_model, setting_groups
from latentscale.config.secrets import SECRET
from latentscale.config.store import StorageConfig, protocol_of
from latentscale.config.text import annotation_at, load_yaml, read_value, shown
from latentscale.errors import ConfigError, shortened
from latentscale.file_names import escaped


def parse_job(values: Mapping[str, Any], *, where: str) -> JobConfig:
    """Validate settings that came from a file, the command line or Python.

    Parameters
    ----------
    values : mapping
        Nested settings, as in ``job.yaml``.
    where : str
        Where they came from, for the error message.

    Raises
    ------
    ConfigError
        Naming the first key that does not exist (with the nearest one that does) or the first invalid value.
    """
    _check_text(values, "", where)
    try:
        return _with_corpus_storage(job_model().model_validate(values))
    except ValidationError as error:
        # The chain would print the values, and one of them may be a misplaced secret.
        raise _explain(error.errors(include_url=False), where) from None


def _check_text(value: Any, key: str, where: str) -> None:
    """Refuse half of a surrogate pair in text: Python's sign for a byte that is not UTF-8, which no record can hold.

    The places of the corpus and the workspace are left to those who open them: names of files are bytes.
    """
    if key in ("out", "corpus.sources"):
        return
    if isinstance(value, str) and not _is_text(value):
        raise ConfigError(
            f"{key or 'a setting'} is not UTF-8 text"
            + ("" if _may_be_secret(key.split(".")) else f" (given: '{shortened(escaped(value))}')"),
            where=where,
            hint="Type it in UTF-8; a file with such a name, rename.",
        )
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping):
        for name, one in cast("Mapping[Any, Any]", value).items():
            _check_text(str(name), key, where)
            _check_text(one, f"{key}.{name}" if key else str(name), where)
    elif isinstance(value, list | tuple):
        for one in cast("Sequence[Any]", value):
            _check_text(one, key, where)


def _may_be_secret(parts: Sequence[int | str]) -> bool:
    return not {"storage", "pass_environment", "runtime_env", "image"}.isdisjoint(parts)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _with_corpus_storage(job: JobConfig) -> JobConfig:
    """Use the workspace's storage settings for the corpus, if both have one protocol or only the corpus is remote."""
    protocol = protocol_of(job.out)
    sources = {protocol_of(source) for source in job.corpus.sources}
    if job.corpus.storage is not None or not (protocol in sources if protocol else sources - {""}):
        return job
    return job.model_copy(update={"corpus": job.corpus.model_copy(update={"storage": job.storage})})


def parse_storage(values: Mapping[str, Any] | StorageConfig | None, *, where: str = "storage") -> StorageConfig:
    """Validate the settings of a store that came from the command line or from Python.

    Raises
    ------
    ConfigError
        Naming the first key that does not exist or the first invalid value.
    """
    if isinstance(values, StorageConfig):
        return values
    try:
        return StorageConfig.model_validate(dict(values or {}))
    except ValidationError as error:
        raise _explain(error.errors(include_url=False), where, StorageConfig) from None


def storage_overrides(pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` pairs of ``--storage`` as settings of a store.

    Raises
    ------
    ConfigError
        If one is not of that form. The value is not repeated: it may be a key.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, separator, _ = pair.partition("=")
        if not separator or not key.strip():
            raise ConfigError(
                f"--storage {key!r} is not of the form KEY=VALUE", hint="--storage endpoint_url=http://127.0.0.1:9000"
            )
        try:
            apply_overrides(values, [pair], model=StorageConfig)
        except ConfigError:
            raise ConfigError(f"--storage {key}=…: the value cannot be read") from None
    return values


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a ``job.yaml`` as nested settings, not validated yet.

    Raises
    ------
    ConfigError
        If the file is missing or is not YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}", hint="latentscale init writes a commented job.yaml.") from error
    except (OSError, UnicodeDecodeError) as error:
        hint = "Save it as UTF-8." if isinstance(error, UnicodeDecodeError) else None
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}", hint=hint) from error
    values = load_yaml(text, where=str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings", hint="latentscale init writes a commented job.yaml.")
    for key in ("out", "corpus", *setting_groups()):
        if key in values and values[key] is None:
            # Nothing stands behind the name, or only comments.
            del values[key]
    for key in ("corpus", *setting_groups()):
        if key in values and not isinstance(values[key], dict):
            raise ConfigError(f"{key} is not a group of settings", where=str(path), hint=_group_hint(key))
    return values


def _group_hint(key: str) -> str:
    return "Write corpus: {sources: …, text: …}." if key == "corpus" else f"latentscale init shows what {key} holds."


def check_job_file(values: Mapping[str, Any], path: str | Path) -> None:
    """Refuse what is wrong in a job file whatever the options say, so that the message names the file.

    Settings that are missing, or that cannot be together, are left to ``parse_job``: options may add or alter them.

    Raises
    ------
    ConfigError
        As of ``parse_job``.
    """
    _check_text(values, "", str(path))
    try:
        job_model().model_validate(values)
    except ValidationError as error:
        wrong = [one for one in error.errors(include_url=False) if _stands_alone(one)]
        if wrong:
            raise _explain(wrong, str(path)) from None


def _stands_alone(error: ErrorDetails) -> bool:
    return error["type"] == "extra_forbidden" or (
        error["type"] != "missing" and not isinstance(error["input"], Mapping | BaseModel)
    )


def apply_overrides(values: dict[str, Any], overrides: Sequence[str], *, model: type[BaseModel] | None = None) -> None:
    """Set ``stage.field=value`` in nested settings; a value is read by the type of its setting.

    Raises
    ------
    ConfigError
        If an override is not of that form.
    """
    for override in overrides:
        key, separator, raw = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(
                f"--set {shown(override)} is not of the form key=value", hint="--set project.n_neighbors=30"
            )
        *parents, last = key.strip().split(".")
        group = values
        for part in parents:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise ConfigError(f"--set {shown(override)}: {part} is not a group of settings")
        try:
            group[last] = read_value(raw, annotation_at(model or job_model(), [*parents, last]))
        except ConfigError as error:
            raise ConfigError(f"--set {key}: {shown(raw)} cannot be read as a value ({error.message})") from None
        if (
            model is None
            and not parents
            and last in ("corpus", *setting_groups())
            and not isinstance(group[last], dict)
        ):
            raise ConfigError(
                f"--set {shown(override)}: {last} is a group of settings", hint=f"Set one of them: --set {last}.NAME=…"
            )


def varied_settings(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read ``stage.field=value,value,…``, each a setting that a sweep varies: its values as a list, by stage and field.

    Raises
    ------
    ConfigError
        If one is not of that form, or no stage after ingest reads it.
    """
    groups: dict[str, dict[str, Any]] = {}
    for one in given:
        key, separator, raw = one.partition("=")
        stage, _, name = key.strip().partition(".")
        if not separator or not name or "." in name or not raw.strip():
            raise ConfigError(
                f"--sweep {shown(one)} is not of the form stage.field=value,value",
                hint="--sweep project.n_neighbors=10,25,50",
            )
        if stage in ("engine", "update", "storage"):
            raise ConfigError(f"--sweep {key}: that is no setting of a map", hint="Vary one of a stage.")
        if stage in ("corpus", "ingest"):
            raise ConfigError(f"--sweep {key}: maps of a sweep have the same documents", hint="Vary a later stage.")
        values: dict[str, Any] = {}
        found: list[Any] = []
        for value in raw.split(","):
            apply_overrides(values, [f"{key}={value.strip()}"])
            found.append(_number_of(values[stage][name], annotation_at(job_model(), [stage, name])))
        groups.setdefault(stage, {})[name] = found
    return groups


def _number_of(value: Any, annotation: Any) -> Any:
    """A number that was read as text, where the setting takes no text."""
    if not isinstance(value, str) or annotation is str or str in get_args(annotation):
        return value
    for kind in (int, float):
        with suppress(ValueError):
            return kind(value)
    return value


def _explain(errors: Sequence[ErrorDetails], where: str, model: type[BaseModel] | None = None) -> ConfigError:
    # A key that does not exist is often why another is missing.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        if SECRET.match(str(first["loc"][-1]).lower()):
            return ConfigError(
                f"there is no setting {key!r}: keys and secrets have no place in settings",
                where=where,
                hint="Put it into an environment variable and name that: key_variable, secret_variable.",
            )
        known = _keys(first["loc"][:-1]) if model is None else list(model.model_fields)
        near = _elsewhere(first["loc"]) or difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}."
        return ConfigError(f"there is no setting {key!r}", where=where, hint=hint)
    if first["type"] == "missing":
        return ConfigError(f"the setting {key!r} is missing", where=where, hint="latentscale init shows all settings.")
    message = str(first["msg"]).removeprefix("Value error, ")[:300]
    hint = "Write it in quotes, so that YAML takes it for text." if first["type"] == "string_type" else None
    # A value that belongs to a store is not repeated: it may be a secret.
    silent = isinstance(first["input"], dict | BaseModel) or model is StorageConfig or "password" in message
    silent = silent or _may_be_secret(first["loc"])
    if first["type"] in ("tuple_type", "list_type", "set_type"):
        example = first["input"] if isinstance(first["input"], str) and not silent else "a, b"
        message, hint = (
            "the setting is a list",
            f"A list stands in brackets, also with one value: [{shortened(example)}].",
        )
    elif first["type"] in ("dict_type", "mapping_type", "model_type"):
        message, hint = "the setting is a mapping of names and values", "It stands in braces: {name: value}."
    given = "" if silent else f" (given: {shown(first['input'])})"
    # Validators say themselves what may be there.
    if hint is None and first["type"] != "value_error":
        hint = "latentscale init writes a file with all settings, what they mean and their defaults."
    return ConfigError(f"{key + ': ' if key else ''}{message}{given}", where=where, hint=hint)


def _model_at(parts: Sequence[int | str]) -> type[BaseModel]:
    model: type[BaseModel] = job_model()
    for part in parts:
        field = model.model_fields.get(str(part))
        kind = None if field is None else next((k for k in _kinds(field.annotation) if issubclass(k, BaseModel)), None)
        if kind is None:
            break
        model = kind
    return model


def _kinds(annotation: Any) -> list[type]:
    """The classes of an annotation, those of a union one by one."""
    return [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]


def _keys(parts: Sequence[int | str]) -> list[str]:
    return list(_model_at(parts).model_fields)


def _elsewhere(loc: Sequence[int | str]) -> list[str]:
    """Find settings of the same name in another group: `n_neighbors` at the top means `project.n_neighbors`."""
    wanted = str(loc[-1])
    return [
        f"{group}.{wanted}"
        for group, field in job_model().model_fields.items()
        if isinstance(field.annotation, type)
        and issubclass(field.annotation, BaseModel)
        and wanted in field.annotation.model_fields
    ]
