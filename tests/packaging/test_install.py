"""The package installs as the README says: from a clone into an empty environment, and from what is released."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def uv() -> str:
    found = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("uv is not here")
    return found


def done(*command: str | Path, cwd: Path) -> str:
    """Run a command as in a new shell, without this checkout in reach."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ended = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    return ended.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is built from it: so the former lacks nothing."""
    folder = tmp_path_factory.mktemp("dist")
    done(uv(), "build", "--quiet", "--out-dir", folder, ROOT, cwd=folder)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


@pytest.fixture(scope="module")
def installed(released: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment with the wheel and an extra."""
    folder = tmp_path_factory.mktemp("environment")
    done(uv(), "venv", "--quiet", "--python", sys.executable, folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    done(uv(), "pip", "install", "--quiet", "--python", python, f"{released[1]}[excel]", cwd=folder)
    return python.parent


def test_the_wheel_contains_what_runs_and_the_sdist_what_builds(released: tuple[Path, Path]) -> None:
    source, wheel = released
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for name in (
        "latentscale/viewer/static/index.html",
        "latentscale/demo/debian-packages.parquet",
        "latentscale/py.typed",
        "latentscale/viewer/compare/compare.js",
        "latentscale/viewer/palette.json",
        "latentscale/viewer/search/newer-characters.json",
        "latentscale/viewer/search/tokens.json",
    ):
        assert name in names, name
    for model in ("minilm-static-en", "minilm-static-en-2"):
        assert f"latentscale/models/{model}/model.safetensors" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "/web/" in name or "node_modules" in name or name.startswith("tests/")]
    with tarfile.open(source) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"jobs/run.py", "jobs/update.py", "CONTRIBUTING.md", "hatch_build.py", "pyproject.toml"} <= files
    assert not [name for name in files if "node_modules" in name]


def test_an_installed_command_makes_a_map_and_exports_it(installed: Path, tmp_path: Path) -> None:
    command = installed / "latentscale"
    assert done(command, "--version", cwd=tmp_path).startswith("latentscale ")
    told = done(command, "doctor", cwd=tmp_path)
    assert "latentscale[s3]" in told
    assert "latentscale[excel]" not in told
    done(command, "run", "demo", "--out", "maps/demo", "--limit", "300", "--progress", "quiet", cwd=tmp_path)
    assert (tmp_path / "maps/demo/viewer/index.html").is_file()
    assert done(command, "search", "maps/demo", "a game of chess", "-k", "1", cwd=tmp_path).count("\n") == 2
    done(command, "export", "maps/demo", "points.xlsx", cwd=tmp_path)
    assert zipfile.is_zipfile(tmp_path / "points.xlsx")


def test_a_clone_installs_with_extras(tmp_path: Path) -> None:
    done(uv(), "venv", "--quiet", "--python", sys.executable, "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    done(uv(), "pip", "install", "--quiet", "--python", python, f"{ROOT}[s3,excel]", cwd=tmp_path)
    where = done(python, "-c", "import latentscale, s3fs; print(latentscale.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path))
