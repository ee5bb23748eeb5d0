"""Every error of an embedder says what to do next."""

from __future__ import annotations

import ast
from pathlib import Path

import latentscale.embedders

ERRORS = ("ConfigError", "CorpusError", "EnvironmentFailure", "ResourceError")


def test_every_error_of_an_embedder_has_a_hint() -> None:
    paths = sorted(Path(str(latentscale.embedders.__file__)).parent.rglob("*.py"))
    calls = [(path, node) for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    raised = [
        (path.name, node.lineno, {keyword.arg for keyword in node.keywords})
        for path, node in calls
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS
    ]
    assert len(raised) > 100
    assert [(name, line) for name, line, given in raised if "hint" not in given] == []
