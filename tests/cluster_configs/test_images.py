"""The images are built from pinned things only, and nothing in them runs as root."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_configs.manifests import CONFIGS, ROOT, VERSIONS

FILES = sorted((CONFIGS / "images").glob("*.Dockerfile"))
PINNED = re.compile(r"^[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$")


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, arguments) of a Dockerfile, comments out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word.upper(), rest.strip())
        for line in joined.splitlines()
        if line.strip()
        for word, _, rest in [line.partition(" ")]
    ]


def problems(text: str) -> Iterator[str]:
    """What a Dockerfile of ours must not do."""
    found = instructions(text)
    variables = dict(rest.partition("=")[::2] for word, rest in found if word == "ARG")
    stages: set[str] = set()
    for _, rest in [one for one in found if one[0] == "FROM"]:
        words = rest.split()
        image = re.sub(r"\$\{(\w+)\}", lambda match: variables.get(match[1], ""), words[0])
        if image not in stages and not PINNED.match(image):
            yield f"base {image} is not pinned by tag and digest"
        stages.add(words[-1])
    if "latest" in text:
        yield "latest"
    last = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    users = [rest for word, rest in found[last:] if word == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1]):
        yield "does not end as a user by number who is not root"
    after = found[found.index(("USER", users[-1])) :] if users else []
    if any(word in ("RUN", "COPY", "ADD") for word, _ in after):
        yield "files that the user could own are added after USER"
    for word, rest in found:
        if word == "ADD":
            yield f"ADD {rest}"
        if word != "RUN":
            continue
        if re.search(r"\b(curl|wget)\b", rest) or re.search(r"\|\s*(ba)?sh\b", rest):
            yield f"fetches and runs: {rest}"
        for command in re.split(r"&&|;", rest):
            if re.search(r"\bpip install\b", command):
                if "--require-hashes" not in command and not ("--no-deps" in command and "/dist/" in command):
                    yield f"installs without checksums: {command.strip()}"
                if "uv" in command and "--compile-bytecode" not in command:
                    yield f"without byte code: {command.strip()}"
            if "apt-get install" in command and "--no-install-recommends" not in command:
                yield f"installs what is recommended: {command.strip()}"
            if re.search(r"\bsudo\b|chmod (-R )?[0-7]*7\b", command):
                yield f"gives rights: {command.strip()}"
    for word, rest in found:
        if word == "ENV" and re.search(r"TOKEN|SECRET|PASSW", rest):
            yield f"a secret in the image: {rest}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_image_holds_to_the_rules(path: Path) -> None:
    assert list(problems(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (r"@sha256:[0-9a-f]{64}", "", "pinned"),
        (r":3\.11\.14-slim-bookworm@sha256:[0-9a-f]{64}", ":latest", "latest"),
        (r"FROM \$\{BASE\} AS run", "FROM debian:12 AS run", "pinned"),
        (r"USER 10001:10001", "", "not root"),
        (r"USER 10001:10001", "USER root", "not root"),
        (r"USER 10001:10001", "USER 0:0", "not root"),
        (r"USER 10001:10001", "USER 10001:10001\nCOPY x /opt/x", "after USER"),
        (r"--require-hashes -r requirements/image-cpu.lock", "-r requirements/image-cpu.lock", "checksums"),
        (r"--compile-bytecode\s+\\\n\s+--require", "--require", "byte code"),
        (r"RUN groupadd", "RUN curl -sSf https://example.com/install.sh | sh\nRUN groupadd", "fetches"),
        (r"COPY jobs", "ADD https://example.com/x /x\nCOPY jobs", "ADD"),
        (r"RUN groupadd", "RUN apt-get install --yes gcc\nRUN groupadd", "recommended"),
        (r"HOME=/tmp", "HOME=/tmp HF_TOKEN=x", "secret"),
    ],
)
def test_an_image_that_breaks_a_rule_is_seen(old: str, new: str, expected: str) -> None:
    text = (CONFIGS / "images" / "cpu.Dockerfile").read_text(encoding="utf-8")
    changed = re.sub(old, new.replace("\\", r"\\"), text, count=1)
    assert changed != text
    assert any(expected in problem for problem in problems(changed))


def test_all_images_take_one_base_with_the_named_python() -> None:
    bases = {rest for path in FILES for word, rest in instructions(path.read_text()) if word == "ARG"}
    assert len(FILES) == 3
    assert len(bases) == 1
    assert bases.pop().startswith(f"BASE=python:{VERSIONS['python']}.")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_copied_into_an_image_exist_and_are_in_the_build_context(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    let_in = [line.removeprefix("!").rstrip("*") for line in ignored if line.startswith("!")]
    sources = [
        source
        for word, rest in instructions(path.read_text())
        if word == "COPY" and "--from" not in rest
        for source in shlex.split(rest)[:-1]
    ]
    assert len(sources) > 5
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(Path(source).match(one) or source.startswith(one.partition("*")[0]) for one in let_in), source
    for lock in re.findall(r"requirements/[\w.-]+\.lock", path.read_text()):
        assert (ROOT / lock).is_file(), lock


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("image-*.lock")), ids=lambda path: path.name)
def test_the_locks_have_versions_checksums_and_no_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert len(text) < 1_000_000
    packages = re.findall(r"^\S.*$", text, re.MULTILINE)
    assert all("==" in line for line in packages)
    assert len(re.findall(r"^\S[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)) == len(packages)


def test_no_secret_and_no_build_output_is_in_the_build_context() -> None:
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in lines
    assert not any(line.startswith("!.") for line in lines)
    assert "latentscale/viewer/static" in lines
