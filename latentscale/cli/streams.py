"""Robust standard streams: closed file descriptors, broken pipes and encodings other than UTF-8."""

from __future__ import annotations

import codecs
import errno
import io
import os
import stat
import sys
import warnings
from pathlib import Path
from typing import cast

EXIT_READER_GONE = 141
"""Exit code that a shell reports for a program ended by a broken pipe: 128 + SIGPIPE."""
_ESCAPED = "latentscale-escaped"
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.EBADF, errno.ESHUTDOWN)


class StandardStream(io.TextIOWrapper):
    """A standard stream that escapes characters its encoding lacks, and survives a broken pipe.

    Attributes
    ----------
    reader_gone : bool
        Whether output was lost to a broken pipe. A run continues then: the map matters more than its progress output.
    """

    reader_gone = False

    def write(self, text: str) -> int:
        """Write; after a broken pipe, discard."""
        try:
            return super().write(text)
        except OSError as error:
            self._lost(error)
            return len(text)

    def flush(self) -> None:
        """Flush; after a broken pipe, discard."""
        try:
            super().flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        # A full disk behind standard output is an error, since the result is lost; behind standard error it is not.
        if error.errno not in _GONE and self.fileno() != 2:
            raise error
        self.reader_gone = True
        # Discard what is still buffered, and what libraries write to the file descriptor directly.
        _to_nowhere(self.fileno())


def prepare_streams() -> None:
    """Make sure that the process has its three standard streams, whichever file descriptors it was started with.

    A closed number is opened on the null device: otherwise the next file that is opened, an object of the workspace
    perhaps, would get it, and with it whatever a library prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "r" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif number and stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _standard(stream))


def files_of_streams() -> dict[str, Path]:
    """The regular files to which standard output and standard error are redirected, by stream name.

    Empty where the system does not tell.
    """
    found: dict[str, Path] = {}
    for number, name in ((1, "standard output"), (2, "standard error")):
        try:
            if stat.S_ISREG(os.fstat(number).st_mode):
                found[name] = Path(f"/proc/self/fd/{number}").readlink()
        except OSError:
            continue
    return found


def reader_gone() -> bool:
    """Whether the reader of standard output closed the pipe before its end."""
    return isinstance(sys.stdout, StandardStream) and sys.stdout.reader_gone


def silence_libraries() -> None:
    """Keep the warnings of libraries off standard error, here and in processes that are started from here.

    They are for who writes a program. What a person should know is a notice of our own.
    """
    if sys.warnoptions or os.environ.get("LATENTSCALE_DEBUG"):
        return
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")


def _standard(stream: io.TextIOWrapper) -> StandardStream:
    codecs.register_error(_ESCAPED, _escape)
    stream.flush()
    return StandardStream(
        cast(io.BufferedWriter, stream.buffer),
        encoding=stream.encoding,
        errors=_ESCAPED,
        newline=None,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _escape(error: UnicodeError) -> tuple[str, int]:
    r"""What cannot be encoded as \uXXXX, with surrogates beyond 16 bits: JSON stays JSON, and nothing is lost."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


def _to_nowhere(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
