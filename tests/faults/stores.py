"""Object stores on loopback for the fault tests: Swift, a real one, and moto's server."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import Place

NAMES = ("swift", "moto")
# It binds a port that the system chooses, and says which: one that is chosen before may be another's when it starts.
MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running store, and whose it is."""

    endpoint: str
    key: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which a process reaches it, and nothing of the developer's own."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_place(self) -> Place:
        """An empty bucket; whoever opens it needs the variables of ``environment``."""
        import botocore.session
        from botocore.config import Config

        bucket = f"bucket-{uuid.uuid4().hex[:12]}"
        client = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
        )
        client.create_bucket(Bucket=bucket)
        storage = {"endpoint_url": self.endpoint, "region": "us-east-1"}
        return Place(f"s3://{bucket}/map", storage, self.environment)


def _swift() -> Any:
    """The module of ``tests/s3``, which is in no package."""
    if "swift_server" not in sys.modules:
        path = Path(__file__).parents[1] / "s3" / "swift.py"
        spec = importlib.util.spec_from_file_location("swift_server", path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["swift_server"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["swift_server"])
    return sys.modules["swift_server"]


@contextlib.contextmanager
def serving(name: str, folder: Path) -> Iterator[Server]:
    """Run a store until the block ends, its data below ``folder`` or in memory."""
    if name == "swift":
        with _swift().swift(folder) as one:
            yield Server(endpoint=one.endpoint, key=one.key, secret=one.secret)
        return
    environment = {**os.environ, "MOTO_ALLOW_NONEXISTENT_REGION": "true"}
    process = subprocess.Popen(
        [sys.executable, "-c", MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Server(endpoint=f"http://127.0.0.1:{port}", key="AKIDMOTO", secret="moto-secret")
    finally:
        process.terminate()
        process.communicate()
