"""Which files of a source are read: nothing is left out unsaid, and nothing is read that nobody named."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from corpora import listed, listed_and_left

from latentscale.errors import CorpusError, WorkspaceError
from latentscale.readers import local_files
from latentscale.storage.objects import Store

WORKSPACE = json.dumps({"schema": 2, "latentscale": "0.1.0", "corpus": {}})


def made(root: Path, *names: str, content: str = "text\nhello\n") -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def refusal(*sources: str | Path, **settings: Any) -> str:
    with pytest.raises(CorpusError) as error:
        listed(*sources, **settings)
    assert len(str(error.value).splitlines()) <= 6
    assert error.value.exit_code == 2
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------- permissions


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without the privileges of root, which may read everything."""
    if os.geteuid() != 0:
        yield
        return
    # Modules are imported when they are first needed, and may lie where only root may read.
    with tempfile.TemporaryDirectory() as folder:
        made(Path(folder), "y2020/a.csv")
        listed(f"{folder}/**/*.csv")
        refusal(f"{folder}/y2021/*.csv")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("source", ["", "*/*.csv", "**/*.csv"])
def test_a_folder_that_may_not_be_read_is_an_error_with_its_name(open_folder: Path, source: str):
    made(open_folder, "y2020/a.csv", "y2021/a.csv")
    (open_folder / "y2021").chmod(0)
    with as_nobody():
        message = refusal(f"{open_folder}/{source}")
    assert "y2021" in message
    assert "permission denied" in message
    (open_folder / "y2021").chmod(0o755)


def test_a_folder_that_no_pattern_reaches_need_not_be_readable(open_folder: Path):
    made(open_folder, "y2020/a.csv", "y2021/a.csv", "lost+found/x")
    (open_folder / "y2021").chmod(0)
    (open_folder / "lost+found").chmod(0)
    with as_nobody():
        assert [file.path for file in listed(open_folder / "y2020" / "*.csv")] == ["a.csv"]
        assert [file.path for file in listed(f"{open_folder}/*20/*.csv")] == ["y2020/a.csv"]
    (open_folder / "y2021").chmod(0o755)
    (open_folder / "lost+found").chmod(0o755)


# ---------------------------------------------------------------------------------------------------------------- links


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder with a file and with links: to a file and a folder elsewhere, and to nowhere."""
    made(tmp_path, "elsewhere/b.csv", "elsewhere/more/d.csv", "c/a.csv")
    (tmp_path / "c/b.csv").symlink_to(tmp_path / "elsewhere/b.csv")
    (tmp_path / "c/more").symlink_to(tmp_path / "elsewhere/more")
    (tmp_path / "c/x.csv").symlink_to("nowhere.csv")
    return tmp_path / "c"


def test_links_out_of_a_folder_are_followed_only_when_asked(linked: Path):
    paths, left = listed_and_left(linked)
    assert paths == ["a.csv"]
    assert left.kinds == {"links out of the folder": 1, "links to folders": 1, "links that lead nowhere": 1}
    notes: list[str] = []
    from latentscale.config import CorpusConfig
    from latentscale.readers.inputs import list_inputs

    list_inputs(CorpusConfig(sources=(str(linked),)), notes)
    assert "corpus.follow_links=true" in notes[0]
    paths, left = listed_and_left(linked, follow_links=True)
    assert paths == ["a.csv", "b.csv", "more/d.csv"]
    assert left.kinds == {"links that lead nowhere": 1}


def test_a_pattern_follows_links(linked: Path):
    assert [file.path for file in listed(linked / "*.csv")] == ["a.csv", "b.csv"]
    assert [file.path for file in listed(linked / "*" / "*.csv")] == ["more/d.csv"]
    assert [file.path for file in listed(linked / "**" / "*.csv")] == ["a.csv", "b.csv", "more/d.csv"]
    assert [file.path for file in listed(linked / "*.csv", follow_links=False)] == ["a.csv"]


def test_a_folder_of_links_to_other_folders_says_how_to_follow_them(linked: Path):
    (linked / "a.csv").unlink()
    assert "corpus.follow_links=true" in refusal(linked)


def test_links_within_a_folder_are_followed_where_they_lead_to_hidden_files(tmp_path: Path):
    # A mounted ConfigMap of Kubernetes, and the blobs of a cache.
    made(tmp_path, "..2026_01_01/a.csv", "blobs/.b")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "a.csv").symlink_to("..data/a.csv")
    (tmp_path / "b.csv").symlink_to("blobs/.b")
    assert [file.path for file in listed(tmp_path)] == ["a.csv", "b.csv"]
    assert [file.path for file in listed(tmp_path / "*.csv")] == ["a.csv", "b.csv"]


def test_the_target_of_two_links_counts_once(linked: Path):
    (linked / "b2.csv").symlink_to(linked.parent / "elsewhere/b.csv")
    paths, left = listed_and_left(linked / "*.csv")
    assert paths == ["a.csv", "b.csv"]
    assert left.kinds["links to what is read already"] == 1


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="a file system of the kernel")
@pytest.mark.parametrize("follow", [None, True])
@pytest.mark.parametrize("source", ["", "*", "**", "env.csv"])
def test_files_of_the_kernel_are_never_read(tmp_path: Path, source: str, follow: bool | None):
    made(tmp_path, "a.csv")
    (tmp_path / "env.csv").symlink_to("/proc/self/environ")
    (tmp_path / "net").symlink_to("/proc/self/net")
    (tmp_path / "tty.csv").symlink_to("/dev/zero")
    if source == "env.csv":
        assert "no file on a disk" in refusal(tmp_path / source, follow_links=follow)
        return
    paths, left = listed_and_left(f"{tmp_path}/{source}", follow_links=follow)
    assert paths == ["a.csv"]
    assert left.kinds["files of the kernel"] >= 2


# ------------------------------------------------------------------------------------------------ what is no plain file


def test_special_files_are_refused_by_kind(tmp_path: Path):
    os.mkfifo(tmp_path / "p.csv")
    (tmp_path / "b.csv").symlink_to("nowhere.csv")
    (tmp_path / "round.csv").symlink_to("round.csv")
    assert "is a pipe" in refusal(tmp_path / "p.csv")
    assert "leads nowhere: to nowhere.csv" in refusal(tmp_path / "b.csv")
    assert "circle" in refusal(tmp_path / "round.csv")
    assert "no file on a disk" in refusal("/dev/stdin")
    assert "no file on a disk" in refusal("/dev/fd/63" if Path("/dev/fd/63").exists() else "/dev/null", format="csv")
    made(tmp_path, "a.csv")
    paths, left = listed_and_left(tmp_path)
    assert paths == ["a.csv"]
    assert left.kinds["pipes, sockets and devices"] == 1


def test_a_name_that_begins_with_a_tilde_is_a_file_before_it_is_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(made(tmp_path, "~x.csv"))
    assert [file.path for file in listed("~x.csv")] == ["~x.csv"]
    assert "no user with a home folder" in refusal("~nobody-of-this-name/y.csv")


# ---------------------------------------------------------------------------------------------------------------- names


def test_names_that_are_not_utf8_are_read_under_their_escaped_names(tmp_path: Path, ingested: Callable[..., Any]):
    folder = tmp_path / "c"
    folder.mkdir()
    for name in (b"a.csv", b"caf\xe9.csv", b"d\xff/b.csv"):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text\nfrom {len(name)}\n")
    made_of = ingested(folder)
    assert made_of.sources == ["a.csv", "caf\\xe9.csv", "d\\xff/b.csv"]
    assert made_of.texts == ["from 5", "from 8", "from 8"]
    # As an argument of the command line comes, and as the record of a workspace has it.
    odd = os.fsdecode(os.fsencode(folder) + b"/caf\xe9.csv")
    assert [file.path for file in listed(odd)] == ["caf\\xe9.csv"]
    assert [file.path for file in listed(f"{folder}/caf\\xe9.csv")] == ["caf\\xe9.csv"]
    assert [file.path for file in listed(f"{folder}/caf*.csv")] == ["caf\\xe9.csv"]


def test_a_workspace_whose_path_is_not_utf8_is_refused(tmp_path: Path):
    with pytest.raises(WorkspaceError, match="is not UTF-8"):
        Store(os.fsdecode(os.fsencode(tmp_path) + b"/m\xe9"))


def test_two_names_that_are_one_as_text_are_refused(tmp_path: Path):
    for name in (b"caf\xe9.csv", b"caf\\xe9.csv"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("text\nx\n")
    assert "Rename one of them" in refusal(tmp_path)


def test_messages_cut_long_names(tmp_path: Path):
    made(tmp_path, "a" * 200 + ".docx")
    assert max(map(len, refusal(tmp_path).split(" "))) < 160
    assert "a" * 61 not in refusal(tmp_path).replace(str(tmp_path), "")


# -------------------------------------------------------------------------------------------- what is beside the tables


def test_other_files_in_a_folder_of_tables_are_listed(tmp_path: Path):
    made(
        tmp_path, "data.csv", "README.md", "LICENSE.txt", "dataset_info.json", "old.zip", "x.docx", ".y.csv", "Makefile"
    )
    paths, left = listed_and_left(tmp_path)
    assert paths == ["data.csv"]
    assert left.kinds == {
        ".docx": 1,
        "(no suffix)": 1,
        "hidden files": 1,
        ".md beside other files": 1,
        ".txt beside other files": 1,
        ".json beside other files": 1,
        ".zip beside other files": 1,
    }
    assert {"kind": ".docx", "files": 1, "example": "x.docx"} in left.as_json()
    assert "1 .docx (x.docx)" in str(left)


def test_lock_files_of_office_are_ignored(tmp_path: Path):
    made(tmp_path, "a.xlsx", "~$a.xlsx", "b/~$b.xlsx")
    paths, left = listed_and_left(tmp_path)
    assert paths == ["a.xlsx"]
    assert left.kinds == {"hidden files": 2}


def test_json_is_read_from_a_folder_without_other_tables(tmp_path: Path):
    made(tmp_path, "data.json", "README.md", "LICENSE.txt")
    paths, left = listed_and_left(tmp_path)
    assert paths == ["data.json"]
    assert len(left) == 2
    assert [file.path for file in listed(tmp_path / "*.md")] == ["README.md"]


# ----------------------------------------------------------------------------------------------------------- workspaces


PAGE = (
    "page/viewer/index.html",
    "page/viewer/manifest.json",
    "page/maps/map-0123456789abcdef/viewer/rows/0.parquet",
    "page/maps/map-0123456789abcdef/viewer/ids/0.parquet",
)
MANIFEST = '{"schema":1,"title":"A map","generations":[{"schema":1,"documents":8}]}'


@pytest.mark.parametrize("source", ["", "**/*", "**/*.parquet", "*/*/*.parquet", "*.csv"])
def test_a_workspace_is_never_part_of_a_corpus(tmp_path: Path, source: str):
    made(tmp_path, "a.csv", "map/documents/x.parquet", "deep/map2/documents/y.parquet", "z/1/b.parquet")
    for name in ("map", "deep/map2"):
        (tmp_path / name / "workspace.json").write_text(WORKSPACE)
    made(tmp_path, "other/workspace.json", content='{"folders": []}')
    paths, left = listed_and_left(f"{tmp_path}/{source}")
    assert not [path for path in paths if "map" in path]
    assert paths
    assert left.kinds.get("LatentScale workspaces", 0) == (0 if source == "*.csv" else 2)


def test_a_workspace_in_a_bucket_is_not_part_of_a_corpus_either():
    memory = fsspec.filesystem("memory")
    for name in ("a.csv", "map/documents/x.csv", "map/runs/1/y.csv"):
        memory.pipe_file(f"/nested/{name}", b"text\nx\n")
    memory.pipe_file("/nested/map/workspace.json", WORKSPACE.encode())
    assert listed_and_left("memory://nested")[0] == ["a.csv"]
    assert listed_and_left("memory://nested/**/*.csv")[0] == ["a.csv"]
    assert "is a workspace" in refusal("memory://nested/map")


@pytest.mark.parametrize("source", ["", "**/*", "**/*.parquet"])
def test_an_exported_page_is_never_part_of_a_corpus(tmp_path: Path, source: str):
    made(tmp_path, "a.csv", "z/1/b.parquet", "z/map-x/viewer/c.parquet", "y/manifest.json", *PAGE)
    (tmp_path / "page" / "viewer" / "manifest.json").write_text(MANIFEST)
    # A web application of somebody else has files of these names.
    made(tmp_path, "app/index.html", "app/manifest.json", "app/assets/d.parquet", content='{"name": "generations"}')
    paths, left = listed_and_left(f"{tmp_path}/{source}")
    assert not [path for path in paths if path.startswith("page/")]
    assert {"z/1/b.parquet", "z/map-x/viewer/c.parquet", "app/assets/d.parquet"} <= set(paths)
    assert left.kinds["LatentScale pages"] == 2


def test_an_exported_page_in_a_bucket_is_not_part_of_a_corpus_either():
    memory = fsspec.filesystem("memory")
    others = ("app/d.csv", "app/index.html", "app/manifest.json")
    for name in ("a.csv", "z/map-x/viewer/c.parquet", *PAGE, *others):
        memory.pipe_file(f"/paged/{name}", b"text\nx\n")
    memory.pipe_file("/paged/page/viewer/manifest.json", MANIFEST.encode())
    paths, left = listed_and_left("memory://paged")
    assert paths == ["a.csv", "app/d.csv", "z/map-x/viewer/c.parquet"]
    assert left.kinds["LatentScale pages"] == 2


def test_a_workspace_itself_is_refused_as_a_corpus(tmp_path: Path):
    made(tmp_path, "documents/x.parquet", "workspace.json", content=WORKSPACE)
    assert "latentscale export" in refusal(tmp_path)


def test_a_pattern_that_is_none_is_refused_as_such(tmp_path: Path):
    assert "** any folders" in refusal(f"{made(tmp_path, 'a.csv')}/a**b.csv")
    assert "there is no" in refusal(tmp_path / "nowhere" / "*.csv")


def test_folders_nested_deeper_than_calls_can_be_are_read(tmp_path: Path):
    deep = tmp_path
    for _ in range(700):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "a.csv").write_text("text\nx\n")
    assert len(listed(tmp_path)) == 1


def test_the_file_systems_of_the_kernel_are_known_by_their_mounts():
    assert {"/proc", "/sys", "/dev"} <= local_files.kernel_folders()
    assert local_files.is_kernel_path("/proc/self/mem")
    assert not local_files.is_kernel_path("/procurement/a.csv")
    assert not local_files.is_kernel_path("/dev/shm/a.csv")
