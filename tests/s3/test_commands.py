"""What is wrong with a store, as a command says it: in time, with exit code and fix, and with nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import latentscale as ls

SECRET = "canary-SECRET-d41d8cd98f"
SKEWED = """
import datetime, runpy, sys, time
import botocore.auth
real, back = botocore.auth.get_current_datetime, datetime.timedelta(hours=2)
botocore.auth.get_current_datetime = lambda *a, **k: real(*a, **k) - back
now = time.time
time.time = lambda: now() - back.total_seconds()
sys.argv[0] = "latentscale"
runpy.run_module("latentscale", run_name="__main__")
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that is wrong.

    Attributes
    ----------
    code : int
        What the command ends with.
    says : tuple of str
        What must be in its message: the thing and the fix.
    storage : mapping of str to str
        Settings other than the right ones; ``{proxy}`` is the address of the proxy.
    variables : mapping of str to str or None
        Of the environment; None for one that is not set.
    bucket : str, optional
        Another bucket than the one that is there.
    before : callable, optional
        Done with the bucket first.
    skewed : bool
        Whether the machine's clock is two hours behind.
    """

    code: int
    says: tuple[str, ...]
    storage: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str | None] = field(default_factory=dict)
    bucket: str | None = None
    before: Callable[[Any], object] | None = None
    skewed: bool = False


def readable(bucket: Any) -> None:
    """Let everybody read and list: the second user of the server may do no more than that."""
    bucket.client.put_bucket_acl(Bucket=bucket.name, ACL="public-read")


CASES = {
    "a wrong secret": Case(
        code=2,
        says=("does not accept the credentials", "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        variables={"AWS_SECRET_ACCESS_KEY": SECRET},
    ),
    "a key that nobody has": Case(
        code=2,
        says=("does not accept the credentials", "AWS_ACCESS_KEY_ID"),
        variables={"AWS_ACCESS_KEY_ID": "test:nobody", "AWS_SECRET_ACCESS_KEY": SECRET},
    ),
    "no credentials": Case(
        code=2,
        says=("there are no credentials", "AWS_PROFILE"),
        variables={"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
    ),
    "a variable that is not set": Case(
        code=2,
        says=("MY_KEY is not set", "Set MY_KEY, or MY_KEY_FILE"),
        storage={"key_variable": "MY_KEY", "secret_variable": "MY_SECRET"},
    ),
    "a profile that is not there": Case(
        code=2,
        says=("no such profile", "nightly", "aws configure list-profiles"),
        storage={"profile": "nightly"},
    ),
    "a missing bucket": Case(code=2, says=("there is no bucket 'never-made'", "Create it"), bucket="never-made"),
    "a wrong region": Case(
        code=2, says=("in the region us-east-1, not eu-west-7", "region=us-east-1"), storage={"region": "eu-west-7"}
    ),
    "a bucket that can only be read": Case(
        code=2,
        says=("cannot write", "permission denied", "s3:PutObject"),
        variables={"AWS_ACCESS_KEY_ID": "test:reader"},
        before=readable,
    ),
    "a bucket of somebody else": Case(
        code=2,
        says=("cannot list", "permission denied", "s3:ListBucket"),
        variables={"AWS_ACCESS_KEY_ID": "test:reader"},
    ),
    "a wrong clock": Case(code=4, says=("clock of this machine is 7,", "behind", "NTP"), skewed=True),
    "nobody listens": Case(
        code=4,
        says=("does not answer", "http://127.0.0.1:9", "endpoint_url"),
        storage={"endpoint_url": "http://127.0.0.1:9"},
    ),
    "a host that is not there": Case(
        code=4,
        says=("does not answer", "http://nowhere.invalid:9000", "endpoint_url"),
        storage={"endpoint_url": "http://nowhere.invalid:9000"},
    ),
    "a store that never answers": Case(
        code=4,
        says=("does not answer", "no answer in time", "endpoint_url"),
        before=lambda bucket: bucket.proxy.outage(600, silent=True),
    ),
    "a store that is out of order": Case(
        code=4,
        says=("does not answer", "SlowDown", "tries in"),
        before=lambda bucket: setattr(bucket.proxy, "rate", 1.0),
    ),
}
FAST = ("a wrong secret", "a bucket that can only be read")
EVERY = [pytest.param(CASES[name], id=name, marks=() if name in FAST else pytest.mark.slow) for name in CASES]


def latentscale(bucket: Any, case: Case, *words: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """A command in a process of its own, and the seconds that it took."""
    storage = {**bucket.storage, **case.storage}
    options = [word for name, value in storage.items() for word in ("--storage", f"{name}={value}")]
    variables = {**os.environ, "LATENTSCALE_DEBUG": "", **case.variables}
    command = [sys.executable, *(("-c", SKEWED) if case.skewed else ("-m", "latentscale"))]
    began = time.monotonic()
    done = subprocess.run(
        [*command, *words, *options],
        capture_output=True,
        text=True,
        env={name: value for name, value in variables.items() if value is not None},
        check=False,
    )
    return done, time.monotonic() - began


def everything(bucket: Any) -> dict[str, str]:
    """All objects of a bucket, past the proxy."""
    answer = bucket.client.list_objects_v2(Bucket=bucket.name)
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    return {entry["Key"]: entry["ETag"] for entry in [*answer.get("Contents", []), *uploads]}


def is_said(case: Case, done: subprocess.CompletedProcess[str], seconds: float) -> None:
    assert done.returncode == case.code, done.stderr
    for words in case.says:
        assert words in done.stderr
    assert seconds < 120
    assert len(done.stderr.splitlines()) <= 6
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("case", EVERY)
def test_a_run_into_a_store_with_something_wrong(swift_bucket: Any, small_corpus: Path, case: Case) -> None:
    if case.before is not None:
        case.before(swift_bucket)
    out = swift_bucket.url("map") if case.bucket is None else f"s3://{case.bucket}/map"
    done, seconds = latentscale(swift_bucket, case, "run", str(small_corpus), "--text", "text", "--out", out)
    is_said(case, done, seconds)
    assert out in done.stderr or case.code == 2
    assert everything(swift_bucket) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a wrong secret", "a missing bucket", "a bucket of somebody else", "nobody listens"])
def test_a_corpus_in_a_store_with_something_wrong(swift_bucket: Any, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    corpus = swift_bucket.url("raw") if case.bucket is None else f"s3://{case.bucket}/raw"
    done, seconds = latentscale(swift_bucket, case, "run", corpus, "--text", "text", "--out", str(tmp_path / "map"))
    is_said(case, done, seconds)
    assert not (tmp_path / "map").exists()


@pytest.mark.slow
def test_an_update_says_it_too(swift_bucket: Any, small_corpus: Path) -> None:
    made = ls.run(
        str(small_corpus),
        text="text",
        out=swift_bucket.url("map"),
        storage=swift_bucket.storage,
        progress="quiet",
        project={"n_epochs": 20},
        cluster={"min_cluster_size": 8},
    )
    before = everything(swift_bucket)
    for name in ("a wrong secret", "a missing bucket", "a bucket that can only be read"):
        case = CASES[name]
        if case.before is not None:
            case.before(swift_bucket)
        place = swift_bucket.url("map") if case.bucket is None else f"s3://{case.bucket}/map"
        done, seconds = latentscale(swift_bucket, case, "update", place)
        is_said(case, done, seconds)
    # Who may only read can look at everything.
    shown, _ = latentscale(swift_bucket, case, "show", place, made.id)
    assert shown.returncode == 0, shown.stderr
    assert everything(swift_bucket) == before
