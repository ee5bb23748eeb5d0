"""Each setting of a store reaches the wire: read off the requests as a server gets them."""

from __future__ import annotations

import json
import os
import re
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from latentscale.config import CorpusConfig, StorageConfig
from latentscale.errors import ConfigError, StorageError
from latentscale.readers.inputs import list_inputs, open_input
from latentscale.storage.objects import Store

MEBIBYTE = 1 << 20


def exercise(store: Store) -> None:
    """Every kind of request that a store ever sends."""
    store.check(write=True)
    store.put_bytes("one", b"1")
    store.put_bytes("large", os.urandom(6 * MEBIBYTE))
    assert store.read_bytes("one") == b"1"
    assert store.info("one") is not None
    assert sorted(store.list()) == ["large", "one"]
    with store.open("large") as file:
        file.seek(100)
        assert len(file.read(100)) == 100
    store.discard(store.unfinished())
    store.delete(["one"])


def kinds(bucket: Any) -> set[str]:
    return {request.method for request in bucket.proxy.seen}


def scope(request: Any) -> tuple[str, str]:
    """Key and region of a signed request."""
    found = re.match(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d+/([^/]+)/s3/aws4_request", request.header("Authorization")
    )
    assert found, request.headers
    return found[1], found[2]


def test_the_region_is_signed(mock_bucket: Any) -> None:
    region = "eu-west-7"
    exercise(mock_bucket.store(region=region, multipart_threshold=5 * MEBIBYTE))
    assert kinds(mock_bucket) == {"GET", "HEAD", "PUT", "POST", "DELETE"}
    assert {scope(request) for request in mock_bucket.proxy.seen} == {(mock_bucket.server.key, region)}


def test_the_region_of_the_environment_is_signed_where_none_is_named(
    mock_bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    mock_bucket.store(region=None).check()
    assert {scope(request)[1] for request in mock_bucket.proxy.seen} == {"ap-south-1"}


@pytest.mark.parametrize("style", ["auto", "path"])
def test_the_bucket_is_in_the_path_of_a_store_with_an_endpoint(bucket: Any, style: str) -> None:
    exercise(bucket.store(addressing_style=style, multipart_threshold=5 * MEBIBYTE))
    for request in bucket.proxy.seen:
        assert request.target.startswith(f"/{bucket.name}"), request.target
        assert bucket.name not in request.header("Host")


def test_the_bucket_is_in_the_host_name_where_that_is_asked_for(
    mock_bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Names of hosts need a resolver; a client behind an HTTP proxy leaves them to that proxy, which is ours.
    monkeypatch.setenv("HTTP_PROXY", mock_bucket.proxy.endpoint)
    monkeypatch.setenv("NO_PROXY", "")
    named = {"addressing_style": "virtual", "endpoint_url": "http://s3.us-east-1.amazonaws.com"}
    exercise(mock_bucket.store(**named, multipart_threshold=5 * MEBIBYTE))
    assert kinds(mock_bucket) == {"GET", "HEAD", "PUT", "POST", "DELETE"}
    for request in mock_bucket.proxy.seen:
        assert request.header("Host") == f"{mock_bucket.name}.s3.us-east-1.amazonaws.com"
        assert f"/{mock_bucket.name}/" not in request.target


@pytest.fixture
def profiles(mock_bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Configuration files with two profiles, and no keys in the environment."""
    (tmp_path / "config").write_text(
        "[profile maps]\nregion = eu-north-1\n[profile other]\nregion = sa-east-1\n"
        f"services = near\n[services near]\ns3 =\n  endpoint_url = {mock_bucket.proxy.endpoint}\n"
    )
    (tmp_path / "keys").write_text(
        "[maps]\naws_access_key_id = AKIDMAPS\naws_secret_access_key = one\n"
        "[other]\naws_access_key_id = AKIDOTHER\naws_secret_access_key = two\naws_session_token = three\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return tmp_path


@pytest.mark.usefixtures("profiles")
def test_a_profile_gives_keys_region_and_endpoint(mock_bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mock_bucket.store(profile="maps", region=None).check()
    assert {scope(request) for request in mock_bucket.proxy.seen} == {("AKIDMAPS", "eu-north-1")}
    mock_bucket.proxy.seen.clear()
    mock_bucket.store(profile="other", region=None, endpoint_url=None).check()
    assert {scope(request) for request in mock_bucket.proxy.seen} == {("AKIDOTHER", "sa-east-1")}
    assert {request.header("X-Amz-Security-Token") for request in mock_bucket.proxy.seen} == {"three"}
    mock_bucket.proxy.seen.clear()
    monkeypatch.setenv("AWS_PROFILE", "maps")
    mock_bucket.store(region=None).check()
    assert {scope(request)[0] for request in mock_bucket.proxy.seen} == {"AKIDMAPS"}
    # A region that is named stands before that of the profile.
    mock_bucket.proxy.seen.clear()
    mock_bucket.store(region="us-west-2").check()
    assert {scope(request)[1] for request in mock_bucket.proxy.seen} == {"us-west-2"}


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate that nobody trusts for 127.0.0.1, and its key."""
    now, name = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(made.public_bytes(encoding))
    (folder / "key.pem").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    return folder / "cert.pem", folder / "key.pem"


def test_a_certificate_must_be_trusted(
    swift_bucket: Any, proxies: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    with proxies.faulty_proxy(swift_bucket.server.endpoint, tls=tls) as proxy:
        named = {"endpoint_url": proxy.endpoint, "multipart_threshold": 5 * MEBIBYTE}
        with pytest.raises(StorageError, match="certificate of the store at https://") as caught:
            swift_bucket.store(**named).check()
        assert "AWS_CA_BUNDLE" in str(caught.value)
        assert proxy.seen == []
        monkeypatch.setenv("AWS_CA_BUNDLE", str(cert))
        exercise(swift_bucket.store(**named))
        # The digest of each body is signed here too.
        assert {len(request.header("X-Amz-Content-SHA256")) for request in proxy.seen} == {64}


@pytest.mark.usefixtures("profiles")
def test_a_missing_profile_is_named(mock_bucket: Any) -> None:
    with pytest.raises(ConfigError, match="mpas") as caught:
        mock_bucket.store(profile="mpas").check()
    assert "aws configure list-profiles" in str(caught.value)
    assert mock_bucket.proxy.seen == []


def test_an_anonymous_client_signs_nothing_and_reads_a_public_bucket(
    mock_bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(mock_bucket.url("raw"), storage=mock_bucket.direct).put_bytes("news.csv", b"text\nhello\n")
    public = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{mock_bucket.name}*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [public]})
    mock_bucket.client.put_bucket_policy(Bucket=mock_bucket.name, Policy=policy)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    reach = StorageConfig(**mock_bucket.storage, anonymous=True)
    (file,) = list_inputs(CorpusConfig(sources=(mock_bucket.url("raw"),), storage=reach))
    with open_input(file, reach) as stream:
        assert stream.read() == b"text\nhello\n"
    assert kinds(mock_bucket) == {"GET", "HEAD"}
    for request in mock_bucket.proxy.seen:
        names = {name.lower() for name, _ in request.headers}
        assert not names & {"authorization", "x-amz-date", "x-amz-security-token"}
        assert "Signature" not in request.target


@pytest.mark.parametrize("pays", [True, False])
def test_who_pays_says_so_in_each_request(bucket: Any, pays: bool) -> None:
    exercise(bucket.store(requester_pays=pays, multipart_threshold=5 * MEBIBYTE))
    assert kinds(bucket) == {"GET", "HEAD", "PUT", "POST", "DELETE"}
    assert {request.header("x-amz-request-payer") for request in bucket.proxy.seen} == {"requester" if pays else ""}


def test_a_corpus_is_read_with_its_own_storage_settings(mock_bucket: Any) -> None:
    Store(mock_bucket.url("raw"), storage=mock_bucket.direct).put_bytes("news.csv", b"text\nhello\n")
    reach = StorageConfig(**mock_bucket.storage, requester_pays=True)
    (file,) = list_inputs(CorpusConfig(sources=(mock_bucket.url("raw/*.csv"),), storage=reach))
    with open_input(file, reach) as stream:
        assert stream.read() == b"text\nhello\n"
    assert kinds(mock_bucket) == {"GET", "HEAD"}
    assert {request.header("x-amz-request-payer") for request in mock_bucket.proxy.seen} == {"requester"}


def test_the_keys_of_named_variables_are_those_that_sign(mock_bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MY_KEY": "AKIDMINE", "MY_SECRET": "four", "MY_TOKEN": "five"}.items():
        monkeypatch.setenv(name, value)
    named = {"key_variable": "MY_KEY", "secret_variable": "MY_SECRET", "token_variable": "MY_TOKEN"}
    mock_bucket.store(**named).check()
    assert {scope(request)[0] for request in mock_bucket.proxy.seen} == {"AKIDMINE"}
    assert {request.header("X-Amz-Security-Token") for request in mock_bucket.proxy.seen} == {"five"}


def test_never_more_concurrent_requests_than_allowed(mock_bucket: Any) -> None:
    store = mock_bucket.store(max_requests=3, multipart_threshold=5 * MEBIBYTE, part_size=5 * MEBIBYTE)
    # The first part waits for a second one, however slow the machine is; and each request takes long enough that one
    # more than may would be seen.
    mock_bucket.proxy.at.append((r"partNumber=", lambda: setattr(mock_bucket.proxy, "together", 2)))
    mock_bucket.proxy.latency = 0.05
    store.put_bytes("large", os.urandom(40 * MEBIBYTE))
    store.read_bytes("large")
    store.delete(f"{n}" for n in range(50))
    assert 2 <= mock_bucket.proxy.most_at_once <= 3
