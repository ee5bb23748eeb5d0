"""The connections of this process to remote stores."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from typing import Any

from latentscale.config import StorageConfig, protocol_of
from latentscale.digest import canonical_json
from latentscale.errors import EnvironmentFailure, MissingPackageError, RequestError
from latentscale.storage.remote.credentials import fingerprint
from latentscale.storage.remote.protocol import Remote

_connections: dict[tuple[Any, ...], Remote] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    # The lock may have been held by another thread. The connections stay, unused: they are the parent's.
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def connect(url: str, storage: StorageConfig) -> tuple[Remote, str]:
    """Return the connection for ``url``, shared by all stores of this process with these settings, and its path.

    Nothing is sent yet. A forked process makes its own connections: an event loop does not survive a fork.

    Raises
    ------
    MissingPackageError
        If the file system needs a package that is not installed.
    RequestError
        If the URL is not one.
    EnvironmentFailure
        If its store cannot be reached.
    """
    protocol = protocol_of(url)
    settings = hashlib.sha256(canonical_json(storage.model_dump(mode="json"))).hexdigest()
    key = (os.getpid(), protocol, settings, fingerprint(storage))
    try:
        if protocol == "s3":
            from latentscale.storage.remote.s3 import S3Remote

            return _connected(key, lambda: S3Remote(storage)), _s3_path(url)
        from latentscale.storage.remote.fsspec_remote import AnyRemote, locate

        fs, path = locate(url, storage)
        return _connected((*key, id(fs)), lambda: AnyRemote(fs, storage)), path
    except ImportError as error:
        raise MissingPackageError(
            f"{url} needs a package that is not installed ({error})",
            hint="pip install 'latentscale[s3]'" if protocol == "s3" else "Install that package.",
        ) from error
    except ValueError as error:
        raise RequestError(f"{url} cannot be opened: {error}") from error
    except OSError as error:  # some file systems connect as soon as they are made
        raise EnvironmentFailure(
            f"{url} cannot be reached: {error}",
            hint="Check the address. When the store answers again, run the same command; it resumes where it stopped.",
        ) from error


def _connected(key: tuple[Any, ...], make: Callable[[], Remote]) -> Remote:
    with _lock:
        found = _connections.get(key)
        if found is None:
            found = _connections[key] = make()
        return found


def _s3_path(url: str) -> str:
    path = url.partition("://")[2].strip("/")
    bucket = path.partition("/")[0]
    if not bucket or bucket in (".", ".."):
        raise ValueError("it names no bucket; s3://BUCKET/FOLDER")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("a part of the path is empty, '.' or '..'")
    return path
