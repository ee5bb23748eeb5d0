"""The demo corpus is what its README says, and its script reads descriptions as Debian's policy has them."""

from __future__ import annotations

import polars as pl
import pytest

from latentscale.demo import corpus_path
from latentscale.demo.make_corpus import choose, clean_description, one_per_source


@pytest.fixture(scope="module")
def corpus() -> pl.DataFrame:
    return pl.read_parquet(corpus_path())


def test_the_corpus_has_eight_thousand_distinct_documents_in_under_two_megabytes(corpus):
    assert corpus.height == 8_000
    assert corpus["package"].n_unique() == corpus["text"].n_unique() == 8_000
    assert 1_000_000 < corpus_path().stat().st_size < 2_000_000
    assert dict(corpus.schema) == {
        "package": pl.String,
        "section": pl.String,
        "priority": pl.String,
        "installed_size": pl.Int64,
        "maintainer": pl.String,
        "homepage": pl.String,
        "text": pl.String,
    }


def test_no_section_takes_more_than_a_tenth_of_it(corpus):
    shares = corpus["section"].value_counts(normalize=True)["proportion"]
    assert shares.max() < 0.1
    assert len(shares) > 50


def test_no_debian_line_conventions_and_no_mail_address_of_a_maintainer_are_left(corpus):
    assert not corpus["text"].str.contains(r"(?m)^\s*\.\s*$").any()
    assert not corpus["maintainer"].str.contains("@").any()


def test_lines_are_joined_into_paragraphs_and_lists_stay_lists():
    raw = (
        "board game\n A game\n for two.\n .\n With:\n  * chess\n  * a bullet\n    that goes on\n  verbatim\n .\n Last."
    )
    assert clean_description(raw) == (
        "board game\nA game for two.\nWith:\n* chess\n* a bullet that goes on verbatim\nLast."
    )


def test_one_package_of_a_source_is_kept_and_it_is_the_one_of_that_name():
    rows = [
        {"package": name, "source": "foo", "section": section, "text": f"foo\n{name}"}
        for name, section in [("foo-cli", "utils"), ("foo", "utils"), ("libfoo-dev", "libdevel")]
    ]
    rows.append({"package": "foo2", "source": "foo2", "section": "utils", "text": "foo two\nFoo."})
    assert [row["package"] for row in one_per_source(rows)] == ["foo", "foo2"]
    assert [row["package"] for row in one_per_source(rows[2:])] == ["libfoo-dev", "foo2"]


def test_the_choice_hardly_changes_when_a_package_is_added():
    rows = [{"package": f"p{n}", "section": "big" if n % 10 else "small"} for n in range(1000)]
    first = {row["package"] for row in choose(rows, 100)}
    second = {row["package"] for row in choose([*rows, {"package": "new", "section": "big"}], 100)}
    assert 95 <= len(first) <= 105
    assert len(first & second) >= len(first) - 2
