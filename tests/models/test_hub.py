"""A model is found by folder or by id, in the cache or on the hub; each way in which that fails says what to do."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from latentscale.embedders.catalog import local_models
from latentscale.errors import ConfigError, EnvironmentFailure, MissingPackageError
from latentscale.models import hub_fetch
from latentscale.models.hub import content_digest, fetch_model, is_model_id, resolve_model
from latentscale.models.hub_cache import cached_models
from tests.models.conftest import cache_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEXT = "89abcdef0123456789abcdef0123456789abcdef"
SENTENCE = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": b"weights",
    "modules.json": json.dumps(
        [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]
    ).encode(),
    "1_Pooling/config.json": b"{}",
}


def test_a_folder_is_taken_as_it_is_and_has_no_revision(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    found = resolve_model(str(folder))
    assert (found.path, found.name, found.revision, found.source) == (folder, "my-model", None, "folder")
    with pytest.raises(ConfigError, match="has no revision 'v1'"):
        resolve_model(str(folder), revision="v1")


@pytest.mark.parametrize("wrong", ["nothing-of-that-name", "a/b/c", "../x", "org/..", "org/a b", ""])
def test_what_is_neither_folder_nor_id_is_refused_without_a_network(hub_cache, tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    if wrong not in ("", "../x"):
        assert not is_model_id(wrong)
    with pytest.raises(ConfigError, match="not the id of a model"):
        resolve_model(wrong or "missing/")


def test_the_cache_is_read_without_the_client_and_without_a_network(hub_cache, static_files, monkeypatch):
    snapshot = cache_model(hub_cache, "acme/small", static_files, commit=COMMIT)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    found = resolve_model("acme/small")
    assert (found.path, found.name, found.revision, found.source) == (snapshot, "acme/small", COMMIT, "hub")
    assert resolve_model("acme/small", revision=COMMIT) == found
    assert [one.name for one in cached_models()] == ["acme/small"]
    with pytest.raises(MissingPackageError, match="fetching acme/other") as caught:
        resolve_model("acme/other")
    assert "latentscale[hub]" in str(caught.value.hint)


def test_a_model_is_fetched_once_and_never_the_files_that_run_code(hub, static_files):
    hub.add("acme/small", static_files)
    found = resolve_model("acme/small")
    assert found.revision == COMMIT
    assert sorted(path.name for path in found.path.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    before = dict(hub.asked)
    assert resolve_model("acme/small") == found
    assert dict(hub.asked) == before


def test_a_static_model_that_another_process_has_fetched_in_part_is_completed(hub, hub_cache, static_files):
    hub.add("acme/small", static_files)
    begun = {name: content for name, content in static_files.items() if name != "tokenizer.json"}
    cache_model(hub_cache, "acme/small", begun, commit=COMMIT)
    assert (resolve_model("acme/small").path / "tokenizer.json").is_file()


def test_a_run_keeps_the_commit_that_it_has_and_pull_brings_the_next(hub, static_files):
    hub.add("acme/small", static_files)
    assert resolve_model("acme/small").revision == COMMIT
    hub.add("acme/small", {**static_files, "README.md": b"---\nlicense: mit\n---\n"}, commit=NEXT)
    assert resolve_model("acme/small").revision == COMMIT
    assert fetch_model("acme/small").revision == NEXT
    assert resolve_model("acme/small").revision == NEXT
    assert resolve_model("acme/small", revision=COMMIT).revision == COMMIT


def test_a_branch_or_a_tag_is_found_by_its_name(hub, static_files):
    hub.add("acme/small", static_files)
    hub.add("acme/small", static_files, commit=NEXT, branch="v2")
    assert resolve_model("acme/small", revision="v2").revision == NEXT


def test_a_cache_that_has_a_part_is_completed_at_the_same_commit(hub, hub_cache):
    part = {name: SENTENCE[name] for name in ("config.json", "model.safetensors")}
    cache_model(hub_cache, "acme/bert", part, commit=COMMIT)
    hub.add("acme/bert", SENTENCE)
    hub.add("acme/bert", SENTENCE, commit=NEXT)
    found = resolve_model("acme/bert")
    assert found.revision == COMMIT
    assert (found.path / "1_Pooling" / "config.json").is_file()


def test_without_a_network_what_can_do_without_the_rest_is_taken_and_missing_weights_are_not(hub_cache):
    part = {name: SENTENCE[name] for name in ("config.json", "model.safetensors")}
    cache_model(hub_cache, "acme/bert", part, commit=COMMIT)
    assert resolve_model("acme/bert").revision == COMMIT
    cache_model(hub_cache, "acme/empty", {"config.json": b"{}"}, commit=COMMIT)
    with pytest.raises(EnvironmentFailure, match="not complete in the cache"):
        resolve_model("acme/empty")


def test_a_missing_part_of_weights_in_several_files_is_missed(hub_cache):
    index = json.dumps({"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}).encode()
    files = {**SENTENCE, "model.safetensors.index.json": index, "model-1-of-2.safetensors": b"x"}
    del files["model.safetensors"]
    cache_model(hub_cache, "acme/large", files, commit=COMMIT)
    with pytest.raises(EnvironmentFailure, match="cannot be fetched"):
        resolve_model("acme/large")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_switch_of_the_network_is_obeyed_and_the_way_out_named(hub, static_files, monkeypatch, variable):
    hub.add("acme/small", static_files)
    monkeypatch.setenv(variable, "1")
    with pytest.raises(EnvironmentFailure, match="disables the network") as caught:
        resolve_model("acme/small")
    assert "latentscale models pull acme/small" in str(caught.value.hint)
    assert not hub.asked


def test_a_hub_that_does_not_answer_is_said(hub_cache):
    with pytest.raises(EnvironmentFailure, match=r"not in the cache .*cannot be fetched: ConnectError"):
        resolve_model("acme/small")


def test_pull_does_not_pass_off_an_old_commit_where_the_hub_does_not_answer(hub_cache, static_files):
    cache_model(hub_cache, "acme/small", static_files, commit=COMMIT)
    with pytest.raises(EnvironmentFailure, match=f"which has of it main, {COMMIT}"):
        fetch_model("acme/small")


def test_an_unknown_model_a_gated_one_and_a_wrong_revision_are_told_apart(hub, static_files):
    hub.add("acme/small", static_files)
    with pytest.raises(ConfigError, match="has no revision 'v9'"):
        resolve_model("acme/small", revision="v9")
    with pytest.raises(ConfigError, match="has no revision"):
        resolve_model("acme/small", revision="f" * 40)
    with pytest.raises(ConfigError, match="no such model, or a private one"):
        resolve_model("acme/nothing")
    hub.refusals["acme/gated"] = (403, "GatedRepo")
    with pytest.raises(ConfigError, match="gated: its owner asks") as caught:
        resolve_model("acme/gated")
    assert "HF_TOKEN" in str(caught.value.hint)
    hub.refusals["acme/private"] = (401, "")
    with pytest.raises(ConfigError, match="no such model, or a private one"):
        resolve_model("acme/private")
    hub.refusals["acme/gone"] = (404, "RepoNotFound")
    with pytest.raises(ConfigError, match="there is no folder acme/gone, and no such model"):
        resolve_model("acme/gone")


def test_a_model_without_weights_that_are_read_here_is_refused(hub, static_files):
    hub.add("acme/old", {"config.json": b"{}", "pytorch_model.bin": b"never"})
    with pytest.raises(ConfigError, match="has no weights") as caught:
        resolve_model("acme/old")
    assert "safetensors" in str(caught.value.hint)


def test_two_processes_fetch_a_file_once(hub, static_files, hub_cache):
    hub.add("acme/small", {**static_files, "model.safetensors": static_files["model.safetensors"] + b" " * (4 << 20)})
    code = "from latentscale.models.hub import resolve_model; print(resolve_model('acme/small').revision)"
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == [COMMIT, COMMIT]
    assert set(hub.fetched("acme/small").values()) == {1}


def test_the_digest_is_of_names_and_bytes_and_not_of_the_place(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x").write_bytes(b"1")
        (tmp_path / folder / "y").write_bytes(b"2")
    first = content_digest(tmp_path / "a", ["x", "y"])
    assert first == content_digest(tmp_path / "b", ["y", "x"])
    assert first != content_digest(tmp_path / "a", ["x"])
    (tmp_path / "b" / "y").write_bytes(b"20")
    assert first != content_digest(tmp_path / "b", ["x", "y"])
    with pytest.raises(ConfigError, match="cannot be read"):
        content_digest(tmp_path / "a", ["z"])


def test_no_file_that_can_run_code_is_among_those_fetched_whatever_the_patterns(hub, static_files):
    hub.add("acme/small", static_files)
    found = fetch_model("acme/small", patterns=["*"])
    names = {path.name for path in found.path.iterdir()}
    assert names == set(static_files) - {"pytorch_model.bin", "modeling.py"}
    assert "*.py" in hub_fetch.NEVER


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("modules.json", b'[1, null, {"type": 3, "path": 4}]'),
        ("modules.json", b"\xff\xfe not json"),
        ("model.safetensors.index.json", b'{"weight_map": [1]}'),
        ("model.safetensors.index.json", b"[" * 100_000),
        ("config.json", b'{"architectures": null}'),
    ],
)
def test_a_cache_that_holds_anything_is_read_without_a_crash(hub_cache, monkeypatch, name, content):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cache_model(hub_cache, "acme/odd", {**SENTENCE, name: content}, commit=COMMIT)
    assert resolve_model("acme/odd").revision == COMMIT
    assert local_models()[0].name == "static"
