"""Invalid input: exit code 2, at most six lines with problem, place and hint, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import latentscale as ls
from latentscale.errors import RequestError
from tests.cli.conftest import Ended

Latentscale = Callable[..., Ended]


def write_csv(path: Path, *, good: int, bad: list[bytes]) -> Path:
    lines = [b"title,body"] + [f"title {i},a body of several words {i}".encode() for i in range(good)]
    path.write_bytes(b"\n".join(lines + bad) + b"\n")
    return path


def expect(ended: Ended, out: Path, *words: str, code: int = 2) -> None:
    assert ended.code == code, ended.err
    error = ended.err[ended.err.index("Error:") :]
    assert len(error.strip().splitlines()) <= 6
    assert "Traceback" not in ended.err
    for word in words:
        assert word in error
    # What a later command could take for a map, a finished set of documents or vectors is not there.
    for folder in ("snapshots", "embeddings", "maps", "viewer", "HEAD.json"):
        assert not (out / folder).exists()


def test_a_missing_file(latentscale: Latentscale, tmp_path: Path, small_corpus: Path) -> None:
    (tmp_path / "news.csv").write_text("text\nx\n")
    out = tmp_path / "out"
    expect(latentscale("run", tmp_path / "news.cvs", "--out", out), out, "news.cvs", "news.csv")
    assert not out.exists()


def test_a_missing_column_with_the_nearest_name(latentscale: Latentscale, tmp_path: Path, small_corpus: Path) -> None:
    out = tmp_path / "out"
    ended = latentscale("run", small_corpus, "--text", "txt", "--out", out)
    expect(ended, out, "'txt'", "text", "maintainer", "packages.parquet")
    assert not out.exists()


def test_a_missing_column_of_a_template_or_id(latentscale: Latentscale, tmp_path: Path, small_corpus: Path) -> None:
    out = tmp_path / "out"
    expect(latentscale("run", small_corpus, "--text", "{pakage}: {text}", "--out", out), out, "pakage", "package")
    expect(latentscale("run", small_corpus, "--id", "nme", "--out", out), out, "nme")
    expect(latentscale("run", small_corpus, "--where", "sektion = 'games'", "--out", out), out, "sektion", "section")
    assert not out.exists()


@pytest.mark.parametrize(
    "condition", ["installed_size = max(installed_size)", "text IN (SELECT text FROM read_csv('{}'))", "text = 'a' OR"]
)
def test_a_condition_that_is_not_on_one_row(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path, condition: str
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text('"never closed')
    out = tmp_path / "out"
    ended = latentscale("run", small_corpus, "--where", condition.format(secret), "--out", out)
    expect(ended, out, "corpus.where", "on the columns of one row")
    assert "never closed" not in ended.err
    assert not out.exists()


def test_a_folder_with_no_readable_file(latentscale: Latentscale, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "picture.png").write_bytes(b"\x89PNG")
    out = tmp_path / "out"
    expect(latentscale("run", tmp_path / "corpus", "--out", out), out, "1 .png", ".parquet")


def test_a_truncated_parquet_file(latentscale: Latentscale, tmp_path: Path, small_corpus: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(small_corpus.read_bytes()[:-500])
    out = tmp_path / "out"
    expect(latentscale("run", broken, "--out", out), out, "broken.parquet")


def test_a_csv_file_that_is_not_utf_8(latentscale: Latentscale, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "latin.csv", good=20, bad=["grün,größer als früher".encode("cp1252")] * 20)
    out = tmp_path / "out"
    ended = latentscale("run", path, "--text", "body", "--out", out, "--progress", "json")
    expect(ended, out, "latin.csv", "undecodable", "corpus.encoding")
    ended = latentscale("ingest", path, "--text", "body", "--out", out, "--set", "corpus.encoding=cp1252")
    assert ended.code == 0, ended.err


def test_a_ragged_csv_file_with_its_line(latentscale: Latentscale, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "ragged.csv", good=20, bad=[b"one,two,three,four"] * 5)
    out = tmp_path / "out"
    expect(latentscale("run", path, "--text", "body", "--out", out), out, "ragged.csv:22", "5 ragged", "20.0%")


def test_lines_that_are_not_json(latentscale: Latentscale, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    good = [json.dumps({"body": f"a body of several words {i}"}) for i in range(10)]
    path.write_text("\n".join([*good, "{not json", "[1, 2]"]) + "\n")
    out = tmp_path / "out"
    expect(latentscale("run", path, "--text", "body", "--out", out), out, "lines.jsonl:11", "not_json")


def test_rejects_of_a_failed_attempt_are_not_those_of_the_next(latentscale: Latentscale, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "latin.csv", good=20, bad=["grün,größer als früher".encode("cp1252")] * 20)
    out = tmp_path / "out"
    assert latentscale("ingest", path, "--text", "body", "--out", out).code == 2
    assert latentscale("run", path, "--text", "body", "--out", out, "--set", "corpus.encoding=cp1252").code == 0
    workspace = ls.open(out)
    assert workspace.current is not None
    assert workspace.current.points().collect().height == 40
    assert workspace.rejects().height == workspace.current.rejects().height == 0


@pytest.mark.parametrize(
    "setting",
    [
        "embed.model=statc",
        "quality.against=sektion",
        "publish.columns=[pakage]",
        "publish.images=pakage",
        "publish.partition_by=layer_9",
        "publish.partition_by=sektion",
    ],
)
def test_a_wrong_name_in_a_setting_is_found_before_the_corpus_is_read(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path, setting: str
) -> None:
    out = tmp_path / "out"
    expect(latentscale("run", small_corpus, "--out", out, "--set", setting), out, setting.split("=")[0])
    assert not out.exists()


def test_a_list_of_texts_is_not_read_as_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat sat on the mat")
    with pytest.raises(RequestError, match="1 of these 2 strings name files"):
        ls.run([str(tmp_path / "a.txt"), "a dog did not"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made = ls.run(iter([f"a cat sat on the mat {i}" for i in range(12)]), out=tmp_path / "out", progress="quiet")
    assert made.points().collect().height == 12


def test_few_bad_rows_are_rejected_and_the_run_continues(latentscale: Latentscale, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mostly.csv", good=200, bad=[b"one,two,three", b"t,"])
    ended = latentscale("ingest", path, "--text", "body", "--out", tmp_path / "out")
    assert ended.code == 0
    rejects = pl.read_parquet(tmp_path / "out" / "rejects" / "*" / "*.parquet")
    assert sorted(rejects["reason"].to_list()) == ["blank_text", "ragged"]
    assert sorted(rejects["source_row"].to_list()) == [200, 201]


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl", "empty.parquet", "blank.csv"])
def test_a_corpus_without_rows_or_with_only_blank_texts(latentscale: Latentscale, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "blank.csv":
        path.write_text("body,n\n" + " ,1\n" * 30)
    elif name == "empty.parquet":
        pl.DataFrame({"body": pl.Series([], dtype=pl.String)}).write_parquet(path)
    else:
        path.write_text("body\n" if name.endswith("csv") else "")
    out = tmp_path / "out"
    expect(latentscale("run", path, "--text", "body", "--out", out), out)


@pytest.mark.parametrize("fault", ["nan", "width", "type"])
def test_vectors_that_cannot_be_used(latentscale: Latentscale, tmp_path: Path, fault: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 8)).tolist()
    if fault == "nan":
        vectors[7][3] = float("nan")
    elif fault == "width":
        vectors[7] = vectors[7][:5]
    column = pa.array(["x"] * 50) if fault == "type" else pa.array(vectors, pa.list_(pa.float32()))
    path = tmp_path / "vectors.parquet"
    pq.write_table(pa.table({"text": [f"word {i}" for i in range(50)], "emb": column}), path)
    out = tmp_path / "out"
    ended = latentscale(
        "run", path, "--out", out, "--set", "corpus.vectors=emb", "--set", "embed.model=column", "--progress", "quiet"
    )
    expect(ended, out, "emb", *([] if fault == "type" else ["row 7"]))


def test_an_output_that_belongs_to_another_corpus(latentscale: Latentscale, tmp_path: Path, small_corpus: Path) -> None:
    out = tmp_path / "out"
    assert latentscale("ingest", small_corpus, "--out", out).code == 0
    other = write_csv(tmp_path / "other.csv", good=20, bad=[])
    ended = latentscale("run", other, "--text", "body", "--out", out)
    assert ended.code == 2
    assert "has the text" in ended.err
    ended = latentscale("run", other, "--text", "body", "--out", tmp_path)
    assert ended.code == 2
    assert "is not empty and is not a workspace" in ended.err
    copied = tmp_path / "copied.parquet"
    pl.read_parquet(small_corpus).head(50).write_parquet(copied)
    ended = latentscale("run", copied, "--out", out)
    assert ended.code == 2
    assert "belongs to another corpus" in ended.err


def test_an_output_that_cannot_be_written(latentscale: Latentscale, tmp_path: Path, small_corpus: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ended = latentscale("run", small_corpus, "--out", tmp_path / "file" / "out")
    assert ended.code == 2
    assert "where a folder is needed" in ended.err


def test_an_impossible_workspace_path_is_not_retried(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path
) -> None:
    for out, said in ((tmp_path / ("n" * 300), "longer than its disk allows"), ("https://localhost:1/x", "over HTTP")):
        ended = latentscale("run", small_corpus, "--text", "text", "--out", out)
        assert ended.code == 2
        assert said in ended.err


def test_a_job_file_among_others_or_in_another_encoding(latentscale: Latentscale, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_bytes("out: maps\n".encode("utf-16"))
    ended = latentscale("run", job)
    assert ended.code == 2
    assert "Save it as UTF-8" in ended.err
    ended = latentscale("run", job, tmp_path / "a.csv")
    assert ended.code == 2
    assert "read as a job file where it is the only argument" in ended.err


def test_a_group_of_settings_is_not_a_setting(latentscale: Latentscale, tmp_path: Path, small_corpus: Path) -> None:
    for given in ("corpus=3", "storage=x", "cluster=kmeans"):
        ended = latentscale("run", small_corpus, "--out", tmp_path / "out", "--set", given)
        assert ended.code == 2
        assert f"{given.partition('=')[0]} is a group of settings" in ended.err


def test_an_unknown_key_in_a_job_file(latentscale: Latentscale, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"corpus: {{sources: [demo]}}\nout: {tmp_path / 'map'}\nproject: {{n_neighbours: 5}}\n")
    ended = latentscale("run", job)
    assert ended.code == 2
    assert "n_neighbors" in ended.err
    ended = latentscale("run", "demo", "--out", tmp_path / "out", "--set", "projekt.min_dist=0.1")
    expect(ended, tmp_path / "out", "project")


@pytest.mark.parametrize("name", ["../x", "maps/../../x", "/etc/passwd"])
def test_a_name_that_would_leave_the_workspace(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path, name: str
) -> None:
    out = tmp_path / "out"
    assert latentscale("ingest", small_corpus, "--out", out).code == 0
    for command in (["show", out, name], ["search", out, "x", "--map", name], ["diff", out, name, name]):
        ended = latentscale(*command)
        assert ended.code == 2, ended.err
        assert "Traceback" not in ended.err
    assert latentscale("run", small_corpus, "--out", out, "--set", f"name={name}").code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_command_on_another_folder_than_a_workspace(latentscale: Latentscale, tmp_path: Path) -> None:
    for command in ("status", "list", "verify", "embed", "publish", "view"):
        ended = latentscale(command, tmp_path / "nowhere")
        assert ended.code == 2, (command, ended.err)
        assert "Error:" in ended.err
        assert not (tmp_path / "nowhere").exists()


def test_wrong_options_are_exit_code_2(latentscale: Latentscale) -> None:
    assert latentscale("run", "demo", "--no-such-option").code == 2
    assert latentscale("run", "demo").code == 2
    # As a setting 0 is what is free; a person who types it asks for none.
    ended = latentscale("run", "demo", "--out", "nowhere", "--memory", "0")
    assert ended.code == 2
    assert "--memory 8GB" in ended.err


def test_a_full_disk_is_exit_code_4_and_the_same_command_resumes(
    latentscale: Latentscale, tmp_path: Path, small_corpus: Path
) -> None:
    # A limit on the size of files simulates a full disk: the system call that writes fails in the same place.
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from latentscale.cli.main import main; main(sys.argv[1:])"
    )
    out = tmp_path / "out"
    command = ["ingest", str(small_corpus), "--out", str(out), "--progress", "quiet"]
    ended = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 4, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(out.rglob("documents/**/*.parquet"))
    again = latentscale(*command)
    assert again.code == 0, again.err
    assert "600 in 1 shards" in again.out
