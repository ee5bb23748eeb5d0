"""The real cuML and cuVS accept the calls of the backend, and have the arguments that the stand-ins have."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.backends.cuml import fake_rapids
from tests.environments import python_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_500)]
REFUSED = {
    "umap, the row itself not first": "self references",
    "umap, a start of another length": "init",
}


@pytest.fixture(scope="module")
def heard() -> Any:
    python = python_of("cuml")
    root = Path(__file__).parents[3]
    found = subprocess.run(
        [python, str(Path(__file__).with_name("contract.py"))],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=1_200,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    return json.loads(found.stdout.splitlines()[-1])


def test_each_call_is_stopped_by_the_missing_driver_alone(heard: Any) -> None:
    answers = dict(heard["answers"])
    for name, text in REFUSED.items():
        answer = answers.pop(name)
        assert answer.startswith("ValueError"), (name, answer)
        assert text in answer, (name, answer)
    assert len(answers) == 6
    for name, answer in answers.items():
        # Where there is a GPU the calls return.
        assert answer == "returned" or re.match(r"EnvironmentFailure: cuML cannot use a GPU for", answer), (
            name,
            answer,
        )


def test_stand_ins_have_the_arguments_of_the_libraries(heard: Any) -> None:
    for name, signature in heard["signatures"].items():
        ours = inspect.signature(getattr(fake_rapids, name)).parameters
        theirs = re.findall(r"[(,]\s*\*?,?\s*(\w+)", signature)
        missing = [argument for argument in ours if argument not in theirs]
        assert not missing, (name, missing, signature)
