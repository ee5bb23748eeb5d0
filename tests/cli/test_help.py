from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import latentscale as ls

HEAVY = ("torch", "ray", "numba", "umap", "sklearn", "pandas", "polars", "pyarrow", "numpy")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom latentscale.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as ended:\n    code = ended.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(str(loaded) if loaded else code)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    for command in ("run", "plan", "status", "verify", "search", "doctor"):
        assert command in ended.stdout


def test_read_only_commands_import_no_heavy_packages(tmp_path: Path) -> None:
    ls.Workspace(tmp_path / "w").ingest(["one text", "another text"])
    script = (
        "import sys\nfrom latentscale.cli.main import main\n"
        "for command in ('status', 'list'):\n"
        "    try:\n        main([command, sys.argv[1]])\n    except SystemExit as ended:\n"
        "        assert not ended.code\n"
        "unwanted = {'scipy', 'sklearn', 'numba', 'hdbscan', 'pandas', 'PIL', 'fsspec', 'yaml', 'torch', 'ray'}\n"
        "sys.exit(str(sorted(unwanted & set(sys.modules))) if unwanted & set(sys.modules) else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "w")], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert "done, started" in ended.stdout


def test_the_public_names_are_those_that_can_be_imported() -> None:
    import latentscale

    assert sorted(latentscale.__all__) == dir(latentscale)
    for name in latentscale.__all__:
        assert getattr(latentscale, name) is not None
