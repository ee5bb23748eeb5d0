"""Keep compiled numba code between processes, so that only the first run on a machine waits for the compiler.

Every kernel of this package is compiled once and stored in the user's cache folder: ``$NUMBA_CACHE_DIR`` if it is set,
else ``latentscale/compiled`` in the platform's cache folder (``$XDG_CACHE_HOME`` or ``~/.cache`` on Linux), in a
subfolder named after the versions that shape the code. Numba itself keys each entry by processor and signature. What
is added to numba's own cache here: a checksum for each entry (a damaged one is compiled again instead of executed),
entry names that two processes with different signatures cannot share, and a folder that cannot be written is replaced
by a private temporary one, which :func:`cache_note` says.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import os
import shutil
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_import_lock = threading.RLock()
_notes: list[str] = []


def cache_note() -> str | None:
    """Describe the problem of the cache of compiled code; None if there is none."""
    cache_folder()
    return " ".join(dict.fromkeys(_notes)) or None


def wanted_cache_folder() -> Path:
    """Where compiled code should be kept on this machine; only computed, not created or read."""
    tag = (
        f"python{sys.version_info[0]}.{sys.version_info[1]}-numba{version('numba')}-pynndescent{version('pynndescent')}"
    )
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(chosen).absolute() / f"latentscale-{tag}"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser()
    elif sys.platform == "darwin":
        base = Path("~/Library/Caches").expanduser()
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return base.absolute() / "latentscale" / "compiled" / tag


@cache
def cache_folder() -> Path:
    """Find the folder that compiled code is kept in, and make it.

    One that cannot be written is replaced by a temporary folder of this process, which starts with a copy of what
    could be read; :func:`cache_note` then says so.
    """
    wanted = wanted_cache_folder()
    try:
        # Cached entries are executable code: no other user may write here.
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=wanted).close()
    except OSError as error:
        spare = Path(tempfile.mkdtemp(prefix="latentscale-compiled-"))
        atexit.register(shutil.rmtree, spare, ignore_errors=True)
        with suppress(OSError, shutil.Error):
            shutil.copytree(wanted, spare, dirs_exist_ok=True, copy_function=shutil.copyfile)
        _notes.append(
            f"Compiled code cannot be kept in {wanted} ({error.strerror or error}): compiled code of this run is lost; "
            "set NUMBA_CACHE_DIR to a folder that can be written."
        )
        return spare
    return wanted


def kernel(*, fastmath: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function with numba and keep the code between processes.

    The code runs without the GIL and never in numba's own threads: callers cut the work into blocks and use a thread
    pool, which numba's default threading layer (unsafe for two callers at once) would not allow.
    """
    import numba

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        dispatcher: Any = numba.njit(nogil=True, fastmath=fastmath, boundscheck=False)(function)
        dispatcher._cache = _cache_class()(function)
        return dispatcher

    return decorate


def import_cached(module: str) -> ModuleType:
    """Import a library whose functions ask numba to cache them, with our cache instead of numba's.

    Numba's own writes next to the library or to a folder of its choice, refuses to define a function where it finds
    none, and executes damaged entries. Only functions defined during the import are concerned.
    """
    with _import_lock:
        if module in sys.modules:
            return sys.modules[module]
        from numba.core import dispatcher

        kind: Any = dispatcher.Dispatcher
        before = kind.enable_caching
        checked = _cache_class()

        def enable_caching(self: Any) -> None:
            self._cache = checked(self.py_func)

        kind.enable_caching = enable_caching
        try:
            return importlib.import_module(module)
        finally:
            kind.enable_caching = before


@cache
def _stamp(folder: Path) -> str:
    """A digest of the compiled modules of a folder: a function is compiled again when one that it calls has changed."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*kernels.py" if folder == Path(__file__).parent else "*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _cache_class() -> Any:
    """Numba's function cache with our folder, a checksum for each entry, and entry names of their own."""
    from numba.core import caching

    numba_caching: Any = caching

    class Locator(numba_caching._CacheLocator):
        def __init__(self, function: Any) -> None:
            self._source = Path(function.__code__.co_filename)
            self._line = function.__code__.co_firstlineno
            self._py_file = str(self._source)

        def get_cache_path(self) -> str:
            return str(cache_folder() / self._source.parent.name)

        def get_source_stamp(self) -> str:
            return _stamp(self._source.parent)

        def get_disambiguator(self) -> str:
            return str(self._line)

        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> Any:
            return cls(py_func)

    class Entries(numba_caching.CompileResultCacheImpl):
        _locator_classes = [Locator]  # noqa: RUF012 - numba's own attribute

    class CheckedFile(numba_caching.IndexDataCacheFile):
        def save(self, key: Any, data: Any) -> None:
            # Named by signature: numba's running numbers let two processes give one name to different code.
            name = f"{self._index_name[:-4]}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"
            self._save_data(name, data)
            path = Path(self._data_path(name))
            with self._open_for_write(f"{path}.sha256") as file:
                file.write(hashlib.sha256(path.read_bytes()).hexdigest().encode())
            self._save_index({**self._load_index(), key: name})

        def _load_index(self) -> dict[Any, str]:
            try:
                return super()._load_index()
            except Exception:  # noqa: BLE001 - damaged bytes raise anything; they count as absent
                return {}

        def _load_data(self, name: str) -> Any:
            path = Path(self._data_path(name))
            if hashlib.sha256(path.read_bytes()).hexdigest() != Path(f"{path}.sha256").read_text("ascii", "replace"):
                raise FileNotFoundError(f"{name} is damaged")  # which numba takes for a missing entry
            return super()._load_data(name)

    class CheckedCache(numba_caching.FunctionCache):
        _impl_class = Entries

        def __init__(self, function: Any) -> None:
            super().__init__(function)
            self._cache_file = CheckedFile(
                cache_path=self._cache_path,
                filename_base=self._impl.filename_base,
                source_stamp=self._impl.locator.get_source_stamp(),
            )

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                super().save_overload(sig, data)
            except OSError as error:  # a full disk must not end a run that has its compiled code in memory
                _notes.append(f"Compiled code could not be kept in {self._cache_path} ({error.strerror or error}).")

    return CheckedCache
