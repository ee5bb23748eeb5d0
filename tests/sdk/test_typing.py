"""What an editor and `help` know of the settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel

import latentscale as ls
from latentscale.config import JobConfig
from tests.sdk import typed_settings

ROOT = Path(__file__).parents[2]

RIGHT = """\
import numpy as np
import polars as pl

import latentscale as ls

m = ls.run(pl.DataFrame({"text": ["a"]}), "maps/x", text="text", where="a = 1", cluster={"min_cluster_size": 5})
ls.run(texts=["a", "b"], out="maps/x", vectors=np.ones((2, 3)), project=ls.ProjectConfig(n_neighbors=5), name="best")
ls.run("corpus.csv", out="maps/x", update={"drift": {"ood_share": 0.2}}, engine={"name": "local"}, progress="quiet")
ws = ls.open("maps/x")
ws.map(project={"n_neighbors": 25}, label={"exemplars": 3}, name="other")
ws.update(["a"], complete=True, update={"max_removed_fraction": 1})
share: float | None = m.quality["trustworthiness"]
hits: list[int] = [hit.row_id for hit in m.search("chess")]
several: list[int] = [hit.row_id for found in m.search(["chess", "go"]) for hit in found]
name: str = ws["best"].id
"""
WRONG = """\
import latentscale as ls

ls.run("corpus.csv", "maps/x", clutser={"min_cluster_size": 5})
ls.run("corpus.csv", "maps/x", cluster={"min_clutser_size": 5})
ls.run("corpus.csv", "maps/x", cluster={"method": "birch"})
ls.run("corpus.csv", "maps/x", project={"n_neighbors": "many"})
ls.run("corpus.csv", "maps/x", progress="none")
ls.open("maps/x").map(projekt={"n_neighbors": 5})
ls.open("maps/x").update(update={"drift": {"ood": 1}})
ls.open("maps/x")["best"].quality["trustworthyness"]
"""


def test_the_typed_settings_are_those_of_the_models() -> None:
    assert typed_settings.PATH.read_text(encoding="utf-8") == typed_settings.source(), (
        "run `python tests/sdk/typed_settings.py`"
    )


def test_help_lists_every_setting_with_its_default() -> None:
    text = ls.run.__doc__ or ""
    for group, field in JobConfig.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            lacking = [name for name in model.model_fields if f"\n    {group}.{name}" not in text]
            assert lacking == [], group
    assert "\n    project.n_neighbors = 15: UMAP's number of neighbours" in text


def test_pyright_marks_wrong_settings_and_no_right_ones(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(RIGHT, encoding="utf-8")
    wrong.write_text(WRONG, encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(right), str(wrong)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in found if one["severity"] == "error"
    ]
    lines = range(3, len(WRONG.splitlines()) + 1)
    assert sorted(set(errors)) == [("wrong.py", line) for line in lines], found
