"""Make one RayJob from a template, wait for its end and end with its exit code: the pod of the nightly CronJob.

It needs Python, PyYAML and the right to create, get and list rayjobs; cronjob.yaml gives it all three. The RayJob has
the name of the Kubernetes Job, so that a pod that restarts after a lost node continues to wait and does not make a
second one, and it belongs to that Job, so that it is deleted with it.

Exit codes: those of the RayJob's entrypoint are passed on (0 done, 2 the request is wrong, 3 done except for
quarantined shards, 4 an environment failure; 1 any other). 2 also where this step itself is refused (its
rights, a field that KubeRay does not know), 4 where another RayJob is at work, 75 where the API does not answer: only
then is there sense in starting the pod again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
FINISHED = {"Complete", "Failed", "ValidationFailed"}
PASSED_ON = {2, 3, 4}
# What may pass: a token that was just replaced, too many requests, and an API server that restarts.
TRANSIENT = {401, 429, 500, 502, 503, 504}
EXIT_REQUEST, EXIT_ENVIRONMENT, EXIT_TRY_AGAIN = 2, 4, 75


class RefusedError(Exception):
    """The API server's answer to a request that it will not carry out, whatever the number of tries."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the Kubernetes API answers {status}: {message}")
        self.status = status


class BusyError(Exception):
    """Another RayJob of the same labels is at work."""


class RayJobs:
    """The RayJobs of one namespace, over the Kubernetes REST API.

    Parameters
    ----------
    account : Path
        Folder with ``token``, ``ca.crt`` and ``namespace`` of the service account.
    budget : float
        Seconds for which a request that fails in passing is tried again.
    """

    def __init__(self, account: Path, *, budget: float) -> None:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        self._account = account
        self._budget = budget
        self._context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        namespace = (account / "namespace").read_text().strip()
        address = f"[{host}]" if ":" in host else host
        self._url = f"https://{address}:{port}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"

    def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create one; a field that the installed KubeRay does not know is an error instead of being dropped."""
        return self._ask("?fieldValidation=Strict&fieldManager=latentscale-nightly", manifest)

    def get(self, name: str) -> dict[str, Any]:
        """The RayJob called ``name``."""
        return self._ask(f"/{urllib.parse.quote(name)}")

    def list(self, labels: dict[str, str]) -> list[dict[str, Any]]:
        """All with these labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return self._ask(f"?labelSelector={urllib.parse.quote(selector)}")["items"]

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        end = time.monotonic() + self._budget
        wait = 0.5
        while True:
            try:
                return self._once(path, body)
            except urllib.error.HTTPError as error:
                problem = _message(error)
                if error.code not in TRANSIENT:
                    raise RefusedError(error.code, problem) from error
            except (OSError, json.JSONDecodeError) as error:
                problem = str(error)
            if time.monotonic() + wait > end:
                raise TimeoutError(f"the Kubernetes API did not answer for {self._budget:.0f} s: {problem}")
            time.sleep(random.uniform(0, wait))  # noqa: S311 - jitter, not a secret
            wait = min(wait * 2, 15.0)

    def _once(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        # The token is read each time: Kubernetes puts a new one there every hour.
        headers = {
            "Authorization": f"Bearer {(self._account / 'token').read_text().strip()}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data=data, headers=headers)  # noqa: S310 - https above
        with urllib.request.urlopen(request, timeout=30, context=self._context) as answer:  # noqa: S310
            return json.loads(answer.read())


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return error.reason


def fill(template: dict[str, Any], *, name: str, uid: str | None) -> dict[str, Any]:
    """The manifest of one night: named after its Job, and owned by it where ``uid`` is given."""
    metadata = {key: value for key, value in template["metadata"].items() if key not in ("generateName", "namespace")}
    metadata["name"] = name
    if uid:
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}
        metadata["ownerReferences"] = [owner]
    return {**template, "metadata": metadata}


def is_finished(job: dict[str, Any]) -> bool:
    """Whether KubeRay is done with it, retries included."""
    return job.get("status", {}).get("jobDeploymentStatus") in FINISHED


def exit_code(job: dict[str, Any]) -> int:
    """What the RayJob ended with; Ray tells the entrypoint's exit code in its message only."""
    status = job.get("status", {})
    if status.get("jobDeploymentStatus") == "Complete" and status.get("jobStatus") == "SUCCEEDED":
        return 0
    if status.get("jobDeploymentStatus") == "ValidationFailed":
        return EXIT_REQUEST
    found = re.search(r"exit code:? (\d+)", status.get("message") or "")
    if found is None:
        return EXIT_ENVIRONMENT
    return int(found[1]) if int(found[1]) in PASSED_ON else 1


def describe(job: dict[str, Any]) -> str:
    """One line for the log."""
    status = job.get("status", {})
    parts = [status.get("jobDeploymentStatus") or "New", status.get("jobStatus"), status.get("reason")]
    failed = f"{status['failed']} failed attempts" if status.get("failed") else None
    line = " · ".join(part for part in [*parts, failed] if part)
    message = " ".join((status.get("message") or "").split())
    return f"{line}: {message[:500]}" if message else line


def start(jobs: RayJobs, manifest: dict[str, Any]) -> None:
    """Create the RayJob unless it is there; refuse while another one with its labels is at work.

    ``Forbid`` keeps Jobs apart, not RayJobs: one that was made by hand, or whose Job is gone without it, is seen here.
    """
    name = manifest["metadata"]["name"]
    others = [one for one in jobs.list(manifest["metadata"]["labels"]) if one["metadata"]["name"] != name]
    busy = [one["metadata"]["name"] for one in others if not is_finished(one)]
    if busy:
        raise BusyError(f"RayJob {busy[0]} is still at work; wait for it, or: kubectl delete rayjob {busy[0]}")
    try:
        jobs.create(manifest)
        log(f"made RayJob {name}")
    except RefusedError as error:
        if error.status != 409:
            raise
        log(f"RayJob {name} exists already; waiting for it")


def wait(jobs: RayJobs, name: str, *, every: float) -> dict[str, Any]:
    """Wait until the RayJob has ended; state changes are printed."""
    last = ""
    while True:
        job = jobs.get(name)
        line = describe(job)
        if line != last:
            log(line)
            last = line
        if is_finished(job):
            return job
        time.sleep(every)


def log(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make one RayJob, wait for its end and end with its exit code.")
    parser.add_argument("template", type=Path, help="a RayJob, as YAML")
    parser.add_argument("--name", default=os.environ.get("JOB_NAME"), help="its name; by default $JOB_NAME")
    parser.add_argument("--owner-uid", default=os.environ.get("JOB_UID"), help="by default $JOB_UID; '' for no owner")
    parser.add_argument("--every", type=float, default=10, help="seconds between looks")
    parser.add_argument("--budget", type=float, default=120, help="seconds for an API server that does not answer")
    parser.add_argument("--account", type=Path, default=ACCOUNT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.name:
        parser.error("the RayJob needs a name: --name or $JOB_NAME")
    manifest = fill(yaml.safe_load(options.template.read_text()), name=options.name, uid=options.owner_uid)
    try:
        jobs = RayJobs(options.account, budget=options.budget)
        start(jobs, manifest)
        job = wait(jobs, options.name, every=options.every)
    except RefusedError as error:
        log(f"Error: {error}")
        return EXIT_REQUEST
    except BusyError as error:
        log(f"Error: {error}")
        return EXIT_ENVIRONMENT
    except OSError as error:
        log(f"Error: {error}")
        return EXIT_TRY_AGAIN
    return exit_code(job)


if __name__ == "__main__":
    sys.exit(main())
