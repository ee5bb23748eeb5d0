"""Problems of a store are reported with hints, in time, before anything is loaded."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import time
from typing import Any
from unittest import mock

import pytest

import latentscale as ls
from latentscale.config import CorpusConfig, StorageConfig, parse_storage
from latentscale.errors import ConfigError, CorpusError, RequestError, StorageError, WorkspaceError
from latentscale.readers.inputs import list_inputs
from latentscale.storage.objects import Store

# The client's own patience is minutes; a busy machine may need a while.
IN_TIME = 120


def said(call: Any, kind: type[Exception]) -> str:
    """The error of a call, which must come in time."""
    began = time.monotonic()
    with pytest.raises(kind) as caught:
        call()
    assert time.monotonic() - began < IN_TIME
    assert len(str(caught.value).splitlines()) <= 6
    assert caught.value.hint  # type: ignore[attr-defined]
    return str(caught.value)


def test_wrong_credentials(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if bucket.server.name == "moto":
        # The mock takes any key, so its refusal is that of the proxy.
        bucket.proxy.answers.append((403, "SignatureDoesNotMatch", "The signature does not match."))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-canary")
    text = said(lambda: bucket.store().check(write=True), RequestError)
    assert "does not accept the credentials" in text
    assert "AWS_SECRET_ACCESS_KEY" in text
    assert "wrong-canary" not in text


def test_no_credentials_at_all(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    text = said(lambda: bucket.store().check(write=True), ConfigError)
    assert "there are no credentials" in text
    assert "key_variable" in text


def test_a_missing_bucket(bucket: Any) -> None:
    store = Store("s3://not-there-at-all/ws", storage=bucket.storage)
    text = said(lambda: store.check(write=True), WorkspaceError)
    assert "there is no bucket 'not-there-at-all'" in text
    assert bucket.proxy.endpoint in text


def test_a_region_that_was_named_and_is_wrong(swift_bucket: Any) -> None:
    text = said(lambda: swift_bucket.store(region="eu-west-7").check(), WorkspaceError)
    assert "in the region us-east-1, not eu-west-7" in text
    assert "--storage region=us-east-1" in text


def test_a_region_that_nobody_named_is_found(swift_bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-7")
    store = swift_bucket.store(region=None)
    store.check(write=True)
    store.put_bytes("x", b"x")
    assert store.read_bytes("x") == b"x"


def test_a_bucket_that_can_only_be_read(bucket: Any) -> None:
    bucket.proxy.read_only = True
    text = said(lambda: bucket.store().check(write=True), WorkspaceError)
    assert "cannot write" in text
    assert "permission denied (AccessDenied" in text
    assert "s3:PutObject" in text
    # A command that only reads may use it all the same.
    bucket.store().check()


def test_a_bucket_that_may_not_be_listed(bucket: Any) -> None:
    bucket.proxy.answers.append((403, "AccessDenied", "Access Denied."))
    assert "s3:ListBucket" in said(lambda: bucket.store().check(), WorkspaceError)


def test_a_clock_that_is_wrong(swift_bucket: Any) -> None:
    import botocore.auth

    real = botocore.auth.get_current_datetime
    hour = datetime.timedelta(hours=1)
    with (
        mock.patch("botocore.auth.get_current_datetime", lambda *a, **k: real(*a, **k) - hour),
        mock.patch("latentscale.storage.remote.error_messages.time.time", return_value=time.time() - 3600),
    ):
        text = said(lambda: swift_bucket.store().check(), StorageError)
    assert "the clock of this machine is 3,6" in text or "the clock of this machine is 3,5" in text
    assert "behind that of the store" in text
    assert "NTP" in text


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://nowhere.invalid:9000"])
def test_an_address_where_nobody_answers(mock_bucket: Any, endpoint: str) -> None:
    text = said(lambda: mock_bucket.store(endpoint_url=endpoint, first_budget=6).check(write=True), StorageError)
    assert "the store does not answer" in text
    assert endpoint in text


def test_an_endpoint_that_accepts_connections_and_never_answers(mock_bucket: Any) -> None:
    mock_bucket.proxy.outage(600, silent=True)
    text = said(lambda: mock_bucket.store(first_budget=4).check(write=True), StorageError)
    assert "no answer in time" in text
    mock_bucket.proxy.recover()


def test_a_name_that_is_no_bucket(bucket: Any) -> None:
    assert "not the name of a bucket" in said(
        lambda: Store("s3://No Bucket/x", storage=bucket.storage).check(), WorkspaceError
    )
    with pytest.raises(RequestError, match="names no bucket"):
        Store("s3://", storage=bucket.storage)


def test_a_missing_variable_or_file(mock_bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    named = {"key_variable": "MY_KEY", "secret_variable": "MY_SECRET"}
    assert "MY_KEY is not set" in said(lambda: mock_bucket.store(**named), ConfigError)
    monkeypatch.setenv("MY_KEY", mock_bucket.server.key)
    monkeypatch.setenv("MY_SECRET_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigError, match="MY_SECRET_FILE names cannot be read"):
        mock_bucket.store(**named)
    (tmp_path / "secret").write_text(mock_bucket.server.secret + "\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = mock_bucket.store(**named)
    store.check(write=True)


def test_keys_in_a_file_are_read_again_when_they_have_expired(
    bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "secret").write_text(bucket.server.secret)
    (tmp_path / "token").write_text("old-token")
    monkeypatch.setenv("MY_KEY", bucket.server.key)
    monkeypatch.setenv("MY_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("MY_TOKEN_FILE", str(tmp_path / "token"))
    named = {"key_variable": "MY_KEY", "secret_variable": "MY_SECRET", "token_variable": "MY_TOKEN"}
    store = bucket.store(**named)
    store.put_bytes("x", b"x")
    bucket.proxy.answers.append((400, "ExpiredToken", "The provided token has expired."))
    (tmp_path / "token").write_text("new-token")
    assert store.read_bytes("x") == b"x"
    bucket.proxy.answers += [(400, "ExpiredToken", "The provided token has expired.")] * 2
    with pytest.raises(StorageError, match="the credentials have expired"):
        store.read_bytes("x")


def test_a_corpus_is_explained_in_the_same_way(bucket: Any) -> None:
    def listed(source: str, **storage: Any) -> Any:
        reach = StorageConfig(**{**bucket.storage, **storage})
        return lambda: list_inputs(CorpusConfig(sources=(source,), storage=reach))

    assert "there is no bucket 'not-there'" in said(listed("s3://not-there/raw"), CorpusError)
    assert "does not answer" in said(
        listed(bucket.url("raw"), endpoint_url="http://127.0.0.1:9", first_budget=4), StorageError
    )
    bucket.store("raw").put_bytes("news.csv", b"text\nhello\n")
    assert "Did you mean news.csv" in said(listed(bucket.url("raw/new.csv")), CorpusError)
    assert "there is no" in said(listed(bucket.url("elsewhere")), CorpusError)


def test_an_impossible_workspace_fails_before_writing_or_loading_a_model(bucket: Any, small_corpus: Any) -> None:
    began = time.monotonic()
    command = [sys.executable, "-X", "importtime", "-m", "latentscale", "run", str(small_corpus), "--text", "text"]
    done = subprocess.run(
        [*command, "--out", "s3://not-there-at-all/ws", *bucket.options()],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert time.monotonic() - began < IN_TIME
    assert done.returncode == 2
    assert "there is no bucket 'not-there-at-all'" in done.stderr
    assert "umap" not in done.stderr
    assert "model2vec" not in done.stderr


@pytest.mark.parametrize(
    "values",
    [
        {"secret": "CANARY"},
        {"aws_secret_access_key": "CANARY"},
        {"options": {"key": "CANARY"}},
        {"options": {"client_kwargs": {"aws_secret_access_key": "CANARY"}}},
        {"options": {"token": "CANARY"}},
        {"options": {"url": "https://me:CANARY@example.com"}},
        {"key_variable": "AKIACANARYCANARY1234", "secret_variable": "X"},
        {"key_variable": "CANARY/+=", "secret_variable": "X"},
        {"endpoint_url": "https://me:CANARY@example.com"},
    ],
)
def test_a_key_in_the_settings_is_refused_and_not_repeated(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_storage(values)
    assert "CANARY" not in str(caught.value)
    assert "CANARY" not in repr(caught.value.__cause__)
    assert "variable" in str(caught.value) or "environment" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        ls.run("x.csv", out="s3://b/x", text="text", storage=values)
    assert "CANARY" not in str(caught.value)


def test_the_corpus_is_reached_as_the_workspace_is_unless_it_says_otherwise() -> None:
    from latentscale.config import parse_job

    base = {"out": "s3://b/map", "storage": {"endpoint_url": "http://one:1"}}
    same = parse_job({**base, "corpus": {"sources": ["s3://c/raw"]}}, where="x")
    assert same.corpus.storage == same.storage
    other = parse_job({**base, "corpus": {"sources": ["s3://c/raw"], "storage": {"anonymous": True}}}, where="x")
    assert other.corpus.storage == StorageConfig(anonymous=True)
    local = parse_job({**base, "corpus": {"sources": ["raw"]}}, where="x")
    assert local.corpus.storage is None
    # On a disk, the settings of a store can only be meant for the corpus.
    on_disk = parse_job({**base, "out": "map", "corpus": {"sources": ["s3://c/raw"]}}, where="x")
    assert on_disk.corpus.storage == on_disk.storage
