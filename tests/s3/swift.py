"""A real S3-compatible server on loopback: OpenStack Swift with its s3api, from PyPI alone, data below one folder.

``python tests/s3/swift.py FOLDER`` starts one and prints its address; it runs until it is interrupted.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

KEY = "test:tester"
REGION = "us-east-1"

# By default a server gives up another one that has not taken a connection for half a second, and an object is not in
# the listing when its container takes more than a second to note it: on a busy machine both happen.
_PATIENCE = """\
conn_timeout = 60
node_timeout = 60
recoverable_node_timeout = 60
container_update_timeout = 60\
"""
_SERVER = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {conf}
devices = {root}/devices
mount_check = false
log_level = WARNING
log_address = {root}/no-log
fallocate_reserve = 0
disable_fallocate = true
{patience}
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {conf}
log_level = WARNING
log_address = {root}/no-log
{patience}
[pipeline:main]
pipeline = catch_errors cache listing_formats bulk s3api tempauth copy slo dlo proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
paste.filter_factory = serve:kept
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = {region}
allow_multipart_uploads = true
min_segment_size = 5242880
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
user_test_reader = {secret}
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""
# Each Swift command that makes a step of a ring takes a second to start.
_RINGS = """\
import sys
from swift.common.ring import RingBuilder
for server in sys.argv[1:]:
    name, port = server.split(":")
    builder = RingBuilder(4, 1, 1)
    builder.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1", "weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(f"{name}.ring.gz")
"""
_SERVE = """\
import json
import sys
from time import monotonic


class Kept:
    # In place of memcached: what Swift knows of an account and a container. Half of its work is to look that up.

    def __init__(self):
        self.values = {}

    def set(self, key, value, serialize=True, time=0, min_compress_len=0, raise_on_error=False):
        self.values[key] = json.dumps(value), monotonic() + time if time else float("inf")

    def get(self, key, raise_on_error=False):
        value, end = self.values.get(key, ("null", 0.0))
        return json.loads(value) if monotonic() < end else None

    def delete(self, key, server_key=None):
        self.values.pop(key, None)


def kept(global_conf, **local_conf):
    values = Kept()

    def around(app):
        def answer(environ, start_response):
            environ["swift.cache"] = values
            return app(environ, start_response)

        return answer

    return around


def inherited(number):
    # The socket that the parent listens at, with what Swift asks of its own.
    from eventlet import patcher
    from eventlet.green import socket

    listening = socket.socket(patcher.original("socket").socket(fileno=number))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


if __name__ == "__main__":
    import swift.common.utils as utils
    import swift.common.wsgi as wsgi

    conf, name = sys.argv[1:3]
    number = int(sys.argv[3])
    wsgi.get_socket = lambda conf: inherited(number)
    # Its default lies under /etc.
    utils.SWIFT_CONF_FILE = f"{conf}/swift.conf"
    sys.exit(wsgi.run_wsgi(f"{conf}/{name}.conf", "proxy-server" if name == "proxy" else f"{name}-server"))
"""
_HASHES = """\
[swift-hash]
swift_hash_path_suffix = latentscale
swift_hash_path_prefix = test
[storage-policy:0]
name = default
default = yes
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swift:
    """A running server.

    Attributes
    ----------
    endpoint : str
    key, secret : str
        Of the owner of everything.
    """

    endpoint: str
    key: str
    secret: str
    root: Path


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now, held all at once so that they differ."""
    with contextlib.ExitStack() as stack:
        ports: list[int] = []
        for _ in range(count):
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            ports.append(held.getsockname()[1])
        return ports


def listen(port: int = 0) -> socket.socket:
    """A socket to be passed to a server as ``fileno()``, at a port that nobody else can take meanwhile.

    The system takes connections from now on, so that who comes before the server is up waits for it.
    """
    return socket.create_server(("127.0.0.1", port), backlog=4096)


@contextlib.contextmanager
def swift(root: Path, *, secret: str = "testing", port: int | None = None) -> Iterator[Swift]:
    """Run Swift with its data below ``root`` until the block ends."""
    conf = root / "conf"
    for folder in (conf, root / "devices" / "d1", root / "log"):
        folder.mkdir(parents=True, exist_ok=True)
    (conf / "swift.conf").write_text(_HASHES)
    (root / "serve.py").write_text(_SERVE)
    names = ("account", "container", "object", "proxy")
    sockets = {name: listen(port or 0 if name == "proxy" else 0) for name in names}
    ports = {name: held.getsockname()[1] for name, held in sockets.items()}
    user = getuser()
    processes: list[subprocess.Popen[bytes]] = []
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        for name in ("account", "container", "object"):
            text = _SERVER.format(name=name, port=ports[name], user=user, conf=conf, root=root, patience=_PATIENCE)
            (conf / f"{name}.conf").write_text(text)
        rings = [
            sys.executable,
            "-c",
            _RINGS,
            *(f"{name}:{ports[name]}" for name in ("account", "container", "object")),
        ]
        done = subprocess.run(rings, cwd=conf, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        text = _PROXY.format(
            port=ports["proxy"], user=user, conf=conf, root=root, region=REGION, secret=secret, patience=_PATIENCE
        )
        (conf / "proxy.conf").write_text(text)
        for name, held in sockets.items():
            number = held.fileno()
            command = [sys.executable, str(root / "serve.py"), str(conf), name, str(number)]
            none = subprocess.DEVNULL
            with (root / "log" / f"{name}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(command, stdout=log, stderr=log, stdin=none, env=environment, pass_fds=[number])
                )
            # Of a server that has ended, nobody takes connections any more.
            held.close()
        for process, own in zip(processes, ports.values(), strict=True):
            _await(process, own, root)
        yield Swift(endpoint=f"http://127.0.0.1:{ports['proxy']}", key=KEY, secret=secret, root=root)
    finally:
        for held in sockets.values():
            held.close()
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], port: int, root: Path) -> None:
    """Wait until a server answers: whatever it says, it is up then."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/healthcheck")
            connection.getresponse().read()
            return
        assert process.poll() is None, "".join(path.read_text() for path in (root / "log").iterdir())
        time.sleep(0.1)
    raise TimeoutError(f"Swift does not answer on port {port}; see {root / 'log'}")


if __name__ == "__main__":
    with swift(Path(sys.argv[1]).resolve()) as running:
        print(running.endpoint, running.key, running.secret, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(1e9)
