"""Messages have an end, whatever a corpus holds."""

from __future__ import annotations

from latentscale.errors import MAX_SENTENCE, CorpusError, name_list


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
