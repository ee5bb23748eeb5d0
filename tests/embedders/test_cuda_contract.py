"""Calls that only a GPU runs: each is named here and compared with what the installed torch accepts."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import latentscale.embedders.encoder as package

pytestmark = pytest.mark.slow
torch = pytest.importorskip("torch", reason="the signatures are those of torch")

# Arguments as the code gives them.
CALLS = {
    "torch.cuda.is_available": ((), {}),
    "torch.cuda.device_count": ((), {}),
    "torch.cuda.get_device_capability": ((0,), {}),
    "torch.cuda.get_device_name": ((0,), {}),
    "torch.cuda.empty_cache": ((), {}),
    "torch.cuda.current_stream": (("cuda:0",), {}),
    "torch.cuda.Event": ((), {"blocking": True}),
    "torch.backends.mps.is_available": ((), {}),
    "torch.compile": ((torch.nn.Identity(),), {"dynamic": True}),
    "torch.compiler.is_compiling": ((), {}),
}
# These are compiled: their documentation is their signature.
COMPILED = {
    "Tensor.pin_memory": "pin_memory() -> Tensor",
    "Tensor.to": "non_blocking=False",
    "Tensor.copy_": "non_blocking=False",
}
KEYWORDS = {"non_blocking": {"to", "copy_"}, "pin_memory": {"empty"}}


def called() -> set[str]:
    """Names below ``torch`` that the package calls."""
    found: set[str] = set()
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                found.add(ast.unparse(node.func).replace("self._torch.", "torch."))
    return found


def test_every_call_of_the_device_is_one_that_torch_accepts():
    prefixes = ("torch.cuda.", "torch.backends.", "torch.compile")
    assert {name for name in called() if name.startswith(prefixes)} == set(CALLS)
    for name, (given, keywords) in CALLS.items():
        target = torch
        for part in name.split(".")[1:]:
            target = getattr(target, part)
        inspect.signature(target).bind(*given, **keywords)


def test_compiled_calls_have_the_arguments_that_they_get():
    for name, text in COMPILED.items():
        assert text in str(getattr(torch.Tensor, name.partition(".")[2]).__doc__), name
    assert "pin_memory=False" in str(torch.empty.__doc__)
    used: dict[str, set[str]] = {keyword: set() for keyword in KEYWORDS}
    for path in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                for keyword in node.keywords:
                    if keyword.arg in used:
                        used[keyword.arg].add(node.func.attr)
    assert used == KEYWORDS


def test_too_little_memory_is_the_error_that_is_caught():
    assert issubclass(torch.OutOfMemoryError, RuntimeError)
    assert torch.cuda.OutOfMemoryError is torch.OutOfMemoryError
