"""What the documentation says to type, import, link to and expect is there."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
import yaml
from pydantic import BaseModel

from latentscale import errors
from latentscale.cli.main import app
from latentscale.config import JobConfig
from latentscale.config.scaffold import job_yaml

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`(latentscale [^`]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Below engine.resources, a stage has other settings.
_SETTING = re.compile(rf"(?<!resources\.)\b({'|'.join(JobConfig.model_fields)})\.([a-z_]+)\b")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def fences(page: Path) -> list[tuple[str, str]]:
    """Kind and content of all fenced blocks."""
    return _FENCE.findall(page.read_text(encoding="utf-8"))


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands() -> Iterator[tuple[str, str]]:
    """(page, line) of all `latentscale …` lines in shell blocks and of all inline ones."""
    for page in PAGES:
        for kind, text in fences(page):
            if kind.strip() == "sh":
                whole = text.replace("\\\n", " ")
                lines = [re.sub(r"\s+#.*$", "", line) for line in whole.splitlines()]
                yield from ((name_of(page), line) for line in lines if line.startswith("latentscale "))
        for line in _INLINE.findall(prose(page)):
            yield name_of(page), " ".join(line.split())


@cache
def command_line() -> Any:
    return typer.main.get_command(app)


def parser_of(words: list[str]) -> tuple[Any, list[str]]:
    """The innermost command that ``words`` name, and the words that are left."""
    command = command_line()
    while words and getattr(command, "commands", None):
        if words[0] in ("--debug", "--help"):
            words = words[1:]
            continue
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def settings() -> Iterator[tuple[str, str]]:
    """(group, field) of every setting."""
    for group, field in JobConfig.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from ((group, name) for name in model.model_fields)
        else:
            yield "", group


def test_there_are_commands_to_check() -> None:
    found = {line.split()[1] for _, line in commands()}
    assert {"run", "view", "plan", "status", "verify", "export", "init", "doctor"} <= found


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_every_command_and_option_exists(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    command, rest = parser_of(words)
    if not rest:
        return  # named, not called
    with command.make_context(command.name, list(rest)) as context:
        for override in context.params.get("set") or []:
            key, separator, _ = override.partition("=")
            assert separator, override
            group, _, name = key.rpartition(".")
            if group.endswith(".options"):
                continue  # of an embedder or a labeler
            assert (group, name) in set(settings()), f"there is no setting {key}"


def test_every_command_is_in_the_readme() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("## Commands", 1)[1].split("\n## ", 1)[0]
    command = command_line()
    assert [name for name in command.commands if not re.search(rf"`(latentscale )?{name}`", table)] == []


def test_every_setting_that_the_pages_name_exists() -> None:
    known, named = set(settings()), set()
    for page in PAGES:
        for code in re.findall(r"`([^`\n]+)`", prose(page)):
            named |= {(page.name, *pair) for pair in _SETTING.findall(code)}
    files = {"json", "yaml", "parquet", "py"}
    assert len(named) > 20
    assert [item for item in sorted(named) if item[1:] not in known and item[2] not in files] == []


def test_every_setting_is_in_the_commented_job_file() -> None:
    lines = job_yaml().splitlines()
    for _, name in settings():
        assert any(re.match(rf"\s*(# )?{name}:", line) for line in lines), name
    # With every comment taken away it is still YAML, and has every group.
    bare = "\n".join(re.sub(r"^(\s*)# (?=\w+:)", r"\1", line) for line in lines)
    values = yaml.safe_load("\n".join(line for line in bare.splitlines() if not line.lstrip().startswith("#")))
    for group, name in settings():
        assert name in (values[group] if group else values)


def runnable() -> Iterator[Any]:
    for page in PAGES:
        for number, (kind, text) in enumerate(fences(page)):
            if kind.split() == ["python", "runnable"]:
                yield pytest.param(text, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("text", list(runnable()))
def test_python_examples_run(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: pl.DataFrame) -> None:
    sections = ["games", "perl", "science"]
    chosen = demo.filter(pl.col("section").is_in(sections)).head(400).rename({"text": "body"})
    chosen.write_parquet(tmp_path / "corpus.parquet")
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "example", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    missing: list[str] = []
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.is_relative_to(ROOT), target
        if not place.exists() or (anchor and anchor not in anchors(place)):
            missing.append(target)
    assert missing == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exception_tree(kind: type[errors.LatentScaleError]) -> list[str]:
    """Each exception with its exit code, by depth, as in docs/errors.md."""
    lines: list[str] = []

    def add(one: type[errors.LatentScaleError], depth: int) -> None:
        lines.append(f"{depth} {one.__name__}")
        for below in one.__subclasses__():
            if below.__module__ == errors.__name__:
                add(below, depth + 1)

    add(kind, 0)
    return lines


def test_the_exception_tree_is_that_of_the_code() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    drawn = next(block for _, block in _FENCE.findall(text) if block.startswith("LatentScaleError"))
    lines: list[str] = []
    for line in drawn.splitlines():
        found = re.fullmatch(r"([│├└─ ]*)(\w+)(?: +exit (\d+))?", line)
        assert found, line
        lines.append(f"{len(found[1]) // 4} {found[2]}")
        if found[3]:
            assert getattr(errors, found[2]).exit_code == int(found[3]), line
    assert lines == exception_tree(errors.LatentScaleError)


def test_every_exception_is_explained_under_its_exit_code() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^### (\w+) \((\d+)\)$", text, re.MULTILINE))
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.LatentScaleError) and kind is not errors.LatentScaleError
    ]
    assert documented == {kind.__name__: str(kind.exit_code) for kind in kinds}


def test_every_exit_code_is_in_the_table() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert listed == codes | {errors.LatentScaleError.exit_code}


def test_every_environment_variable_is_listed() -> None:
    listed = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")))
    read: set[str] = set()
    for path in (ROOT / "latentscale").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        read |= set(re.findall(r"""environ(?:\.get\(|\.setdefault\(|\[)["'](\w+)["']""", text))
        read |= set(re.findall(r"""envvar=["'](\w+)["']""", text))
    assert read
    assert read - listed == set()


def test_the_pages_hold_no_registry_and_no_path_of_a_machine() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"/(root|home|work|Users)/", text), page.name
        assert not re.search(r"\b(pypi|npmjs|debian)\.org\b", text), page.name
