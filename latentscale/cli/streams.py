"""Standard streams that a program can always write to: closed ones, readers that went away, other encodings."""

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
"""What a shell reports of a program that a closed pipe ended: 128 + SIGPIPE."""
_ESCAPED = "latentscale-escaped"
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.EBADF, errno.ESHUTDOWN)


class StandardStream(io.TextIOWrapper):
    """A standard stream that shows what its encoding cannot as an escape, and outlives its reader.

    Attributes
    ----------
    reader_gone : bool
        Whether something could not be delivered. A run continues without its reader: the map is worth more than a
        line of progress.
    """

    reader_gone = False

    def write(self, text: str) -> int:
        """Write, or drop what nobody reads any more."""
        try:
            return super().write(text)
        except OSError as error:
            self._lost(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what nobody reads any more."""
        try:
            super().flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        # A full disk below standard output is a failure: the result is lost. Progress is not worth one.
        if error.errno not in _GONE and self.fileno() != 2:
            raise error
        self.reader_gone = True
        # What is still in the buffer goes nowhere, and so does what libraries write to the number itself.
        _to_nowhere(self.fileno())


def prepare_streams() -> None:
    """Give the process its three standard streams, whatever it was started with.

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
    """The plain files to which standard output and standard error are redirected, by the name of the stream.

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
    """Whether somebody who read standard output went away before its end."""
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
