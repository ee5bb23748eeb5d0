"""The nightly step makes one RayJob, waits, and ends with its exit code; run as the CronJob runs it, over TLS."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster_configs.conftest import COLLECTION, ApiServer
from tests.cluster_configs.manifests import KUBERAY, manifests

SCRIPT, TEMPLATE = KUBERAY / "submit_rayjob.py", KUBERAY / "rayjob-nightly.yaml"
NAME = "latentscale-nightly-29384730"


def state(deployment: str, job: str | None = None, **more: Any) -> dict[str, Any]:
    return {"jobDeploymentStatus": deployment, **({"jobStatus": job} if job else {}), **more}


RUNNING = [{}, state("Initializing"), state("Running", "PENDING"), state("Running", "RUNNING")]
DONE = state("Complete", "SUCCEEDED", succeeded=1)


def failed(code: int) -> dict[str, Any]:
    # Ray's own words: dashboard/modules/job/job_supervisor.py.
    message = (
        f"Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):\n…"
    )
    return state("Failed", "FAILED", reason="AppFailed", message=message, failed=3)


def night(api: ApiServer, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(TEMPLATE), "--account", str(api.account), "--every", "0.02", *options]
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME")}
    given = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(api.port),
        "JOB_NAME": NAME,
        "JOB_UID": "0d4fd4f0",
    }
    env = {**kept, **given, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=env, check=False)


def test_the_rayjob_is_that_of_the_template_named_after_the_job_and_owned_by_it(api: ApiServer) -> None:
    api.states = [*RUNNING, DONE]
    done = night(api)
    assert done.returncode == 0, done.stdout + done.stderr
    made = api.jobs[NAME]
    template = next(one for one in manifests() if one.file == TEMPLATE.name)
    assert made["spec"] == template.value["spec"]
    assert made["metadata"]["labels"] == template.value["metadata"]["labels"]
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": NAME, "uid": "0d4fd4f0"}
    ]
    assert "generateName" not in made["metadata"]
    # Fields that the installed KubeRay does not know are refused, not dropped: authOptions is one of them.
    assert next(query for method, _, query in api.requests if method == "POST")["fieldValidation"] == ["Strict"]
    said = done.stdout.splitlines()
    assert said == ["made RayJob " + NAME, "New", "Initializing", "Running · PENDING", "Running · RUNNING", said[-1]]
    assert said[-1] == "Complete · SUCCEEDED"


@pytest.mark.parametrize(("code", "passed_on"), [(2, 2), (3, 3), (4, 4), (1, 1), (137, 1)])
def test_the_exit_code_of_the_job_is_passed_on(api: ApiServer, code: int, passed_on: int) -> None:
    api.states = [*RUNNING, failed(code)]
    done = night(api)
    assert done.returncode == passed_on
    assert f"exit code {code}" in done.stdout
    assert "3 failed attempts" in done.stdout


def test_a_retry_with_a_new_cluster_is_waited_for(api: ApiServer) -> None:
    api.states = [*RUNNING, state("Retrying", "FAILED", failed=1), {}, *RUNNING, DONE]
    assert night(api).returncode == 0


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (state("Failed", reason="DeadlineExceeded", message="The RayJob has passed the activeDeadlineSeconds."), 4),
        (state("ValidationFailed", reason="ValidationFailed", message="authOptions.mode is 'token' but …"), 2),
        (state("Complete", "FAILED", message="Job entrypoint command failed with exit code 2. No logs available."), 2),
        (state("Complete", "STOPPED"), 4),
    ],
)
def test_other_ends_have_their_code(api: ApiServer, last: dict[str, Any], code: int) -> None:
    api.states = [*RUNNING, last]
    assert night(api).returncode == code


def test_a_pod_that_starts_again_waits_for_the_rayjob_of_the_first(api: ApiServer) -> None:
    api.states = [*RUNNING, *RUNNING, DONE]
    api.jobs[NAME] = {"metadata": {"name": NAME, "labels": {}}, "spec": {"of": "the first pod"}}
    done = night(api)
    assert done.returncode == 0
    assert "exists already" in done.stdout
    assert api.jobs[NAME]["spec"] == {"of": "the first pod"}
    assert len(api.jobs) == 1


def test_a_nightly_run_does_not_start_during_another_rayjob(api: ApiServer) -> None:
    template = next(one for one in manifests() if one.file == TEMPLATE.name)
    labels = template.value["metadata"]["labels"]
    api.jobs["left-over"] = {"metadata": {"name": "left-over", "labels": labels}, "status": state("Running", "RUNNING")}
    done = night(api)
    assert done.returncode == 4
    assert "left-over" in done.stdout
    assert list(api.jobs) == ["left-over"]


def test_finished_rayjobs_and_those_of_others_are_in_nobodys_way(api: ApiServer) -> None:
    template = next(one for one in manifests() if one.file == TEMPLATE.name)
    labels = template.value["metadata"]["labels"]
    api.jobs["yesterday"] = {"metadata": {"name": "yesterday", "labels": labels}, "status": failed(3)}
    api.jobs["theirs"] = {"metadata": {"name": "theirs", "labels": {"app": "x"}}, "status": state("Running")}
    api.states = [DONE]
    assert night(api).returncode == 0
    assert set(api.jobs) == {"yesterday", "theirs", NAME}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_api_server_that_comes_back_is_waited_for(api: ApiServer, status: int) -> None:
    api.failures = [status, status]
    api.states = [DONE]
    assert night(api).returncode == 0


def test_an_api_server_that_stays_away_ends_the_pod_to_be_started_again(api: ApiServer) -> None:
    api.failures = [503] * 1000
    done = night(api, "--budget", "2")
    assert done.returncode == 75
    assert "did not answer for 2 s" in done.stdout


def test_an_address_where_nobody_listens_ends_the_same_way(api: ApiServer) -> None:
    done = night(api, "--budget", "2", KUBERNETES_SERVICE_PORT="1")
    assert done.returncode == 75
    assert "refused" in done.stdout


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "rayjobs.ray.io is forbidden"),
        (404, "page not found"),
        (400, 'unknown field "spec.authOptions"'),
        (422, "x"),
    ],
)
def test_requests_refused_by_the_api_are_reported_and_not_retried(api: ApiServer, status: int, message: str) -> None:
    api.refusal = (status, message)
    done = night(api)
    assert done.returncode == 2
    assert message in done.stdout
    assert len(api.requests) == 1


def test_a_server_with_another_certificate_gets_no_token(api: ApiServer) -> None:
    defaults = ssl.get_default_verify_paths().cafile
    if defaults is None or not Path(defaults).is_file():
        pytest.skip("this machine has no certificates of other authorities")
    shutil.copy(defaults, api.account / "ca.crt")
    done = night(api, "--budget", "1")
    assert done.returncode == 75
    assert "CERTIFICATE_VERIFY_FAILED" in done.stdout
    assert api.requests == []


def test_the_token_is_read_again_for_each_request(api: ApiServer) -> None:
    api.states = RUNNING[-1:]

    def rotate() -> None:
        deadline = time.monotonic() + 120
        while len(api.requests) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        (api.account / "token").write_text("another-token")
        api.token = "another-token"
        api.states = [DONE]

    rotation = threading.Thread(target=rotate)
    rotation.start()
    done = night(api)
    rotation.join()
    assert done.returncode == 0
    assert "the-token" not in done.stdout + done.stderr
    assert "another-token" not in done.stdout + done.stderr


def test_without_a_name_it_does_not_start(api: ApiServer) -> None:
    done = night(api, JOB_NAME="")
    assert done.returncode == 2
    assert "--name" in done.stderr
    assert api.requests == []


def test_the_script_requests_only_what_the_role_allows(api: ApiServer) -> None:
    api.states = [*RUNNING, DONE]
    night(api)
    asked = {(method, path == COLLECTION) for method, path, _ in api.requests}
    verbs = {("GET", True): "list", ("POST", True): "create", ("GET", False): "get"}
    role = next(one for one in manifests() if one.kind == "Role")
    assert {verbs[one] for one in asked} == set(role.value["rules"][0]["verbs"])
