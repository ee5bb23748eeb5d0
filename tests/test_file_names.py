"""File names as typed by users."""

from __future__ import annotations

from pathlib import Path

import pytest

import latentscale
from latentscale.errors import ConfigError, WorkspaceError
from latentscale.file_names import at_home
from latentscale.storage.objects import Store


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_a_tilde_is_the_home_folder_unless_a_file_has_that_name(home: Path) -> None:
    assert at_home("~/maps") == home / "maps"
    assert at_home("a/~/b") == Path("a/~/b")
    assert at_home("~draft.csv") == Path("~draft.csv")
    Path("~").mkdir()
    assert at_home("~") == Path("~")


def test_workspace_and_exports_may_be_below_the_home_folder(home: Path) -> None:
    texts = [f"{one} number {number}" for number in range(12) for one in ("chess", "rivers")]
    made = latentscale.run(texts, "~/maps", progress="quiet", publish={"viewer": False})
    assert (home / "maps" / "workspace.json").is_file()
    current = latentscale.open("~/maps").current
    assert current is not None
    assert current.id == made.id
    made.export("~/points.csv")
    latentscale.open("~/maps").export_labels("~labels.yaml")
    assert (home / "points.csv").is_file()
    assert Path("~labels.yaml").is_file()
    assert sorted(Path.cwd().iterdir()) == [Path.cwd() / "~labels.yaml"]


def test_an_empty_name_is_not_the_folder_of_the_shell(home: Path) -> None:
    Path("a.csv").write_text("text\nchess\n")
    with pytest.raises(WorkspaceError, match="is empty"):
        Store("")
    with pytest.raises(WorkspaceError, match="is empty"):
        latentscale.open("")
    for settings in ({"text": "text"}, {"text": ""}):
        source = "" if settings["text"] else "a.csv"
        with pytest.raises(ConfigError, match="is empty"):
            latentscale.run(source, "maps", progress="quiet", **settings)
    assert not Path("maps").exists()
