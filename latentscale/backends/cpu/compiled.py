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
    """Say what is wrong with the cache of compiled code, or None if nothing is."""
    cache_folder()
    return " ".join(dict.fromkeys(_notes)) or None


def wanted_cache_folder() -> Path:
    """Where compiled code should be kept on this machine; computed only, neither made nor looked at."""
    tag = f"python{sys.version_info[0]}.{sys.version_info[1]}-numba{version('numba')}-pynndescent{version('pynndescent')}"
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
        # Cached entries are executable code: nobody else may write here.
        wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=wanted).close()
    except OSError as error:
        spare = Path(tempfile.mkdtemp(prefix="latentscale-compiled-"))
        atexit.register(shutil.rmtree, spare, ignore_errors=True)
        with suppress(OSError, shutil.Error):
            shutil.copytree(wanted, spare, dirs_exist_ok=True, copy_function=shutil.copyfile)
        _notes.append(
            f"Compiled code cannot be kept in {wanted} ({error.strerror or error}), so that each run compiles again; "
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
        dispatcher = numba.njit(nogil=True, fastmath=fastmath, boundscheck=False)(function)
        dispatcher._cache = _cache_class()(function)
        return dispatcher

    return decorate


def import_cached(module: str) -> ModuleType:
    """Import a library whose functions numba compiles, with its compiled code kept in our cache folder.

    Numba's setting is changed for the duration of the import only: a function remembers the folder that was set when
    it was defined. Damaged entries are removed, and the import tried once more.
    """
    with _import_lock:
        if module in sys.modules:
            return sys.modules[module]
        import numba

        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(cache_folder())
        try:
            try:
                return importlib.import_module(module)
            except ImportError:
                raise
            except Exception:  # noqa: BLE001 - a damaged entry raises whatever its bytes lead to
                forget_compiled_code()
                return importlib.import_module(module)
        finally:
            numba.config.CACHE_DIR = before


def forget_compiled_code() -> None:
    """Remove the kept code of this version; the next call compiles again."""
    folder = cache_folder()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@cache
def _source_stamp() -> str:
    """A digest of every kernel's source: a kernel is compiled again when one that it calls has changed."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*kernels*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _cache_class() -> Any:
    """Numba's function cache with our folder, a checksum for each entry, and entry names of their own."""
    from numba.core import caching

    class Locator(caching._CacheLocator):
        def __init__(self, function: Any) -> None:
            self._line = function.__code__.co_firstlineno
            self._py_file = function.__code__.co_filename

        def get_cache_path(self) -> str:
            return str(cache_folder())

        def get_source_stamp(self) -> str:
            return _source_stamp()

        def get_disambiguator(self) -> str:
            return str(self._line)

        @classmethod
        def from_function(cls, py_func: Any, py_file: str) -> Any:
            return cls(py_func)

    class Entries(caching.CompileResultCacheImpl):
        _locator_classes = [Locator]  # noqa: RUF012 - numba's own attribute

    class CheckedFile(caching.IndexDataCacheFile):
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

    class CheckedCache(caching.FunctionCache):
        _impl_class = Entries

        def __init__(self, function: Any) -> None:
            super().__init__(function)
            own: Any = self
            own._cache_file = CheckedFile(
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
