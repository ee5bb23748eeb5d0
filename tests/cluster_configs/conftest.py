"""A Kubernetes API server with just what the nightly step asks: TLS, a token, and RayJobs that change their state."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

COLLECTION = "/apis/ray.io/v1/namespaces/latentscale/rayjobs"


@dataclass(slots=True)
class ApiServer:
    """What the server holds and how it behaves; tests set the second part."""

    port: int
    account: Path
    token: str = "the-token"
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    """What a job's status is at the first look, the second, …; the last one stays."""
    failures: list[int] = field(default_factory=list)
    """Answers to the next requests, before any of them is served."""
    refusal: tuple[int, str] | None = None
    looks: dict[str, int] = field(default_factory=dict)

    def look(self, name: str) -> dict[str, Any]:
        """The job as it is now; each look brings it one state further."""
        job = self.jobs[name]
        if self.states:
            at = min(self.looks.get(name, 0), len(self.states) - 1)
            self.looks[name] = at + 1
            job["status"] = self.states[at]
        return job


def answer(server: ApiServer, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None) -> tuple[int, Any]:
    """Status and content of one answer."""
    url = urlsplit(handler.path)
    server.requests.append((handler.command, url.path, parse_qs(url.query)))
    if server.failures:
        return server.failures.pop(0), {"message": "not now"}
    if handler.headers["Authorization"] != f"Bearer {server.token}":
        return 401, {"message": "Unauthorized"}
    if server.refusal:
        return server.refusal[0], {"message": server.refusal[1]}
    if handler.command == "POST" and url.path == COLLECTION:
        assert body is not None
        name = body["metadata"]["name"]
        if name in server.jobs:
            return 409, {"message": f'rayjobs.ray.io "{name}" already exists'}
        server.jobs[name] = body
        return 201, body
    if url.path == COLLECTION:
        pairs = [pair.partition("=") for pair in parse_qs(url.query)["labelSelector"][0].split(",")]
        wanted = {key: value for key, _, value in pairs}
        found = [job for job in server.jobs.values() if wanted.items() <= job["metadata"]["labels"].items()]
        return 200, {"items": found}
    name = url.path.removeprefix(COLLECTION + "/")
    if name not in server.jobs:
        return 404, {"message": f'rayjobs.ray.io "{name}" not found'}
    return 200, server.look(name)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    (path.parent / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def api(certificate: Path, tmp_path: Path) -> Iterator[ApiServer]:
    """The server, on a free port of loopback, and the folder that Kubernetes would mount into the pod."""
    account = tmp_path / "account"
    account.mkdir()
    (account / "ca.crt").write_bytes((certificate.parent / "ca.crt").read_bytes())
    (account / "namespace").write_text("latentscale")
    (account / "token").write_text("the-token\n")
    state = ApiServer(port=0, account=account)

    class Handler(BaseHTTPRequestHandler):
        def serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, content = answer(state, self, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = serve  # noqa: N815 - names of http.server

        def log_message(self, format: str, *arguments: Any) -> None: ...

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    state.port = server.server_address[1]
    # Half a second, by default, before it sees that it is to end: longer than a test here takes.
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
