"""Messages are bounded for any content of a corpus."""

from __future__ import annotations

import errno
import os

import pytest

from latentscale.errors import MAX_SENTENCE, CorpusError, RequestError, explain_os_error, name_list


@pytest.mark.parametrize(
    ("number", "path", "said"),
    [
        (errno.ENOSPC, "/maps/x", "Free some space"),
        (errno.EFBIG, "/maps/x", "ulimit -f"),
        (errno.EIO, "/maps/x", "When the disk"),
        (errno.EIO, "s3://maps/x", "When the store"),
    ],
)
def test_hints_of_system_errors_match_the_error(number: int, path: str, said: str):
    assert said in str(explain_os_error(OSError(number, os.strerror(number)), "write", path).hint)


def test_a_name_that_is_too_long_is_a_fault_of_the_request():
    assert isinstance(explain_os_error(OSError(errno.ENAMETOOLONG, "x"), "write", "/maps/x"), RequestError)


def test_messages_and_hints_are_cut():
    error = CorpusError("x" * 100_000, where="a.csv", hint="y" * 100_000)
    assert len(str(error)) < 2 * MAX_SENTENCE + 100
    assert error.message.endswith("…")


def test_lists_of_names_are_cut_and_counted():
    names = ["a" * 3_000, *(f"c{n}" for n in range(2_000))]
    shown = name_list(names)
    assert len(shown) < 400
    assert shown.endswith("c18 … (2,001 in all)")
    assert name_list(["a", "b"]) == "a, b"
