"""Files and folders that commands write: refused before any work, and complete or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentscale.errors import ConfigError, LatentScaleError
from latentscale.explore.contact_sheet import check_sheet
from latentscale.explore.export import check_file
from latentscale.explore.targets import check_new_file, check_new_folder, new_folder
from latentscale.file_names import argument


def no_sheet(to: Path) -> None:
    check_sheet(to, {})


def test_an_unwritable_target_is_refused_with_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.html").mkdir()
    for check, to in (
        (check_new_folder, tmp_path / "file"),
        (check_new_folder, tmp_path / "file" / "below"),
        (check_new_file, tmp_path / "folder.csv"),
        (check_new_file, tmp_path / "file" / "below" / "x.html"),
        (check_file, tmp_path / "folder.csv"),
        (no_sheet, tmp_path / "folder.html"),
        (no_sheet, tmp_path / "nowhere" / "x.html"),
    ):
        with pytest.raises(LatentScaleError) as caught:
            check(to)
        assert caught.value.exit_code == 2
        assert caught.value.hint
    assert (tmp_path / "file").read_text() == "mine"
    check_new_folder(tmp_path / "a" / "b")
    check_file(tmp_path / "a" / "b.csv")
    assert not (tmp_path / "a").exists()


def test_a_folder_is_complete_or_empty(tmp_path: Path) -> None:
    to = tmp_path / "made"

    def fail_in_the_middle() -> None:
        with new_folder(to) as folder:
            folder.mkdir(parents=True)
            (folder / "index.html").write_text("half")
            raise ConfigError("in the middle")

    with pytest.raises(ConfigError):
        fail_in_the_middle()
    assert not to.exists()
    # What a killed command leaves is no obstacle, and nothing of it stays.
    (to / ".unfinished" / "a").mkdir(parents=True)
    with new_folder(to) as folder:
        (folder / "maps").mkdir(parents=True)
        (folder / "index.html").write_text("whole")
        assert not (to / "index.html").exists()
    assert sorted(path.name for path in to.iterdir()) == ["index.html", "maps"]
    with pytest.raises(LatentScaleError, match="is not empty"), new_folder(to):
        pass


def test_a_name_with_spaces_is_one_argument_of_a_command_that_is_printed() -> None:
    assert argument("s3://maps/news") == "s3://maps/news"
    assert argument(Path("a folder/x")) == "'a folder/x'"
