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
    # Another thread may have held the lock. The inherited connections are the parent's and are not used.
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def connect(url: str, storage: StorageConfig) -> tuple[Remote, str]:
    """Return the connection for ``url``, shared by all stores of this process with equal settings, and the path.

    No request is sent yet. A forked process opens its own connections, as an event loop does not survive a fork.

    Raises
    ------
    MissingPackageError
        If the file system needs a package that is not installed.
    RequestError
        If the URL is invalid.
    EnvironmentFailure
        If the store cannot be reached.
    """
    protocol = protocol_of(url)
    settings = hashlib.sha256(canonical_json(storage.model_dump(mode="json"))).hexdigest()
    key = (os.getpid(), protocol, settings, fingerprint(storage))
    try:
        if protocol == "s3":
            from latentscale.storage.remote.s3 import S3Remote

            return _connected(key, lambda: S3Remote(storage)), _s3_path(url)
        from latentscale.storage.remote.fsspec_remote import FsspecRemote, locate

        fs, path = locate(url, storage)
        return _connected((*key, id(fs)), lambda: FsspecRemote(fs, storage)), path
    except ImportError as error:
        raise MissingPackageError(
            f"{url} needs a package that is not installed ({error})",
            hint="pip install 'latentscale[s3]'" if protocol == "s3" else "Install that package.",
        ) from error
    except ValueError as error:
        raise RequestError(f"{url} cannot be opened: {error}") from error
    except OSError as error:  # some file systems connect in their constructor
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
