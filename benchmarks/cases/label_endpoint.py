"""Label 5,000 clusters by a language model service that takes half a second per answer."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

CLUSTERS = 5_000
ANSWER_SECONDS = 0.5
CONCURRENCY = 32


def run(context: Context) -> Result:
    """Label all clusters, then again with the answers in receipts."""
    folder = context.emptied("labels")
    _, measured = fresh(label_clusters, folder=folder)
    ideal = CLUSTERS * ANSWER_SECONDS / CONCURRENCY
    return Result(
        title="Labels by an endpoint that takes half a second for an answer; the server is on the same machine.",
        parameters={"clusters": CLUSTERS, "answer_s": ANSWER_SECONDS, "concurrency": CONCURRENCY},
        rows=[
            {"what": "all asked", "wall_s": measured["wall_s"], "cpu_s": measured["cpu_s"], "calls": measured["calls"]},
            {"what": "all kept", "wall_s": measured["again_s"], "calls": measured["calls_again"]},
        ],
        targets=[
            Target(what="5,000 labels from a server that takes 0.5 s", value=measured["wall_s"], limit=100, unit="s"),
            Target(what="calls for 5,000 clusters that receipts name", value=measured["calls_again"], limit=0),
        ],
        notes=[f"{CONCURRENCY} requests at a time cannot take less than {ideal:.1f} s."],
    )


def label_clusters(folder: str) -> dict[str, Any]:
    """Label clusters with evidence of realistic size, with receipts in a workspace."""
    from latentscale.config import LabelConfig
    from latentscale.labelers.endpoint import EndpointLabeler
    from latentscale.labelers.naming import Naming
    from latentscale.labelers.protocol import ClusterEvidence, Contrast
    from latentscale.storage.objects import Store

    text = "A package that reads, converts and writes files of one kind and another, with bindings for languages. " * 4
    evidence = [
        ClusterEvidence(
            layer=0,
            cluster=cluster,
            size=200,
            suggestion=f"Packages {cluster}",
            keyphrases=tuple(f"phrase {cluster} {n}" for n in range(10)),
            exemplars=tuple(range(8)),
            texts=tuple(f"{cluster} {n} {text}" for n in range(8)),
            sibling=Contrast(keyphrases=(f"phrase {cluster + 1}",), texts=(text,)),
        )
        for cluster in range(CLUSTERS)
    ]
    Path(folder).mkdir(parents=True, exist_ok=True)
    process, url, calls = _start_server()
    try:
        config = LabelConfig(
            method="endpoint", options={"model": "m", "url": url, "concurrency": CONCURRENCY, "held_out": False}
        )
        identity = {"name": "endpoint", **EndpointLabeler.check(config)}
        times: list[float] = []
        calls_per_pass: list[int] = []
        cpu = 0.0
        for _ in range(2):
            naming = Naming(
                Store(folder),
                lambda: EndpointLabeler.open(config, "cpu"),
                identity=identity,
                keeps_receipts=True,
                evidence=evidence,
            )
            calls_before, started, used = calls.value, time.perf_counter(), time.process_time()
            naming.ask()
            times.append(time.perf_counter() - started)
            cpu = cpu or time.process_time() - used
            calls_per_pass.append(calls.value - calls_before)
            assert all(label.source == "endpoint" for label in naming.named.labels)
        return {
            "wall_s": times[0],
            "cpu_s": cpu,
            "again_s": times[1],
            "calls": calls_per_pass[0],
            "calls_again": calls_per_pass[1],
        }
    finally:
        process.terminate()
        process.join()


def _start_server() -> tuple[Any, str, Any]:
    """Start a server in a separate process, which counts its answers."""
    context = get_context("spawn")
    calls, port = context.Value("i", 0), context.Value("i", 0)
    process = context.Process(target=_serve, args=(calls, port), daemon=True)
    process.start()
    while not port.value:
        time.sleep(0.01)
    return process, f"http://127.0.0.1:{port.value}/v1", calls


def _serve(calls: Any, port: Any) -> None:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(ANSWER_SECONDS)
            with lock:
                calls.value += 1
                number = calls.value
            label = json.dumps({"label": f"Tools of kind {number}", "description": "Tools.", "confidence": 0.8})
            choice = {"index": 0, "message": {"role": "assistant", "content": label}, "finish_reason": "stop"}
            data = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 900, "completion_tokens": 40}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128
        address_family = socket.AF_INET

    server = Server(("127.0.0.1", 0), Handler)
    port.value = server.server_address[1]
    server.serve_forever(poll_interval=0.02)
