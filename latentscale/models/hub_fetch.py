"""Download a model from the Hugging Face hub into its cache, with helpful errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from latentscale.errors import ConfigError, EnvironmentFailure, LatentScaleError, require
from latentscale.models.hub_cache import cache_folder, cached_revisions, is_commit

EXTRA = "hub"
# Never downloaded by wildcard patterns: code, and weights in formats that can execute code.
NEVER = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack", "*.joblib", "*.py", "*.so")


_may_fetch: ContextVar[bool] = ContextVar("may_fetch", default=True)


class NotFetchedError(EnvironmentFailure):
    """A model is not in the cache, and downloads are not allowed here."""


@contextmanager
def no_downloads() -> Generator[None]:
    """Context in which models missing from the cache raise ``NotFetchedError``, and the network is not used."""
    token = _may_fetch.set(False)
    try:
        yield
    finally:
        _may_fetch.reset(token)


def offline() -> bool:
    """Whether the environment variables of the hub client select offline mode."""
    true_values = ("1", "on", "yes", "true")
    return any(os.environ.get(name, "").lower() in true_values for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))


def fetch(name: str, *, revision: str | None, patterns: Sequence[str], where: str) -> Path:
    """Download the files of a revision that match ``patterns`` into the cache, and return their folder.

    Cached files are not downloaded again. The client locks each file, so that several processes of a
    machine download it once.

    Raises
    ------
    MissingPackageError
        If ``huggingface_hub`` is not installed.
    ConfigError
        If there is no such model or revision, or it is gated.
    EnvironmentFailure
        If the hub does not answer, or offline mode is set.
    """
    if not _may_fetch.get():
        why = unreachable(name, revision, "this command downloads nothing", where=where)
        raise NotFetchedError(why.message, where=why.where, hint=why.hint)
    if offline():
        raise unreachable(name, revision, "the environment disables the network (HF_HUB_OFFLINE)", where=where)
    client: Any = require("huggingface_hub", extra=EXTRA, used_for=f"fetching {name} from the Hugging Face hub")
    if not sys.stderr.isatty():
        importlib.import_module("huggingface_hub.utils").disable_progress_bars()
    # Read now, not when the client was imported, like the cache folder and offline mode.
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        if revision is None or not is_commit(revision):
            # Without an answer the client would silently use a cached commit, however old.
            client.HfApi(endpoint=endpoint).model_info(name, revision=revision)
        return Path(
            client.snapshot_download(
                name,
                revision=revision,
                cache_dir=cache_folder(),
                allow_patterns=list(patterns),
                # Code is downloaded only if requested explicitly, for a trusted revision.
                ignore_patterns=[pattern for pattern in NEVER if pattern not in patterns],
                endpoint=endpoint,
            )
        )
    except Exception as error:  # the client raises exceptions of three libraries
        raise _explain(error, name, revision, where) from error


def unreachable(name: str, revision: str | None, reason: str, *, where: str) -> EnvironmentFailure:
    """Return the error for a model that is not cached and cannot be downloaded."""
    revisions = cached_revisions(name)
    pin = f" --revision {revision}" if revision else ""
    state = f"not complete in the cache {cache_folder()}, which has of it {', '.join(revisions[:4])}"
    state = state if revisions else f"not in the cache {cache_folder()}"
    return EnvironmentFailure(
        f"{_describe(name, revision)} is {state}, and cannot be fetched: {reason}",
        where=where,
        hint=f"On a machine with a network: latentscale models pull {name}{pin}; then copy its cache here. (A folder "
        f"{name}, if that is meant, is not here.)",
    )


def _describe(name: str, revision: str | None) -> str:
    return f"the model {name}" + (f" at revision {revision}" if revision else "")


def _explain(error: Exception, name: str, revision: str | None, where: str) -> LatentScaleError:
    """Explain an error of the client; its classes are matched by name, as they moved between versions."""
    chain = _causes(error)
    class_names = {kind.__name__ for cause in chain for kind in type(cause).__mro__}
    codes = [code for cause in chain if (code := getattr(getattr(cause, "response", None), "status_code", None))]
    status = codes[0] if codes else None
    if "GatedRepoError" in class_names:
        return ConfigError(
            f"{name} is gated: its owner asks to accept terms first",
            where=where,
            hint="Accept them on the model's page, and set HF_TOKEN to a token of that account.",
        )
    if "RevisionNotFoundError" in class_names:
        return ConfigError(
            f"{name} has no revision {revision!r}",
            where=where,
            hint="Give a branch, a tag or the 40 characters of a commit, or leave the revision out.",
        )
    if status in (401, 403):
        return ConfigError(
            f"there is no folder {name}, and the hub refuses it (status {status}): no such model, or a private one",
            where=where,
            hint="Check the spelling; for a private model set HF_TOKEN to a token that may read it.",
        )
    if "RepositoryNotFoundError" in class_names or status == 404:
        return ConfigError(
            f"there is no folder {name}, and no such model on the hub",
            where=where,
            hint="Check the spelling; latentscale models list --recommended names some that work.",
        )
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return EnvironmentFailure(
            f"cannot write {error.filename}: {error.strerror}",
            where=where,
            hint=f"Models are kept in {cache_folder()}; free some space there, or set HF_HOME to another folder.",
        )
    origin = chain[-1]
    return unreachable(name, revision, f"{type(origin).__name__}: {' '.join(str(origin).split())[:200]}", where=where)


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, outermost first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__
    return chain
