"""Every numeric setting has bounds, and values within them compute without warnings."""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from latentscale.backends.cpu.layout import fit_ab
from latentscale.config import PublishConfig, apply_overrides, job_model, parse_job, read_yaml
from latentscale.errors import ConfigError

LEAST: dict[str, Any] = {"corpus": {"sources": "x.csv"}, "out": "maps/x"}


def numbers(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """All settings that can be numbers, with their annotations."""
    for name, field in model.model_fields.items():
        whole = Union[field.annotation, None] if not field.metadata else _annotated(field)  # noqa: UP007
        yield from _numbers(whole, (*path, name))


def _annotated(field: Any) -> Any:
    from typing import Annotated

    return Annotated[(field.annotation, *field.metadata)]


def _numbers(annotation: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _numbers(one, path)
    elif origin is not None and hasattr(annotation, "__metadata__"):
        if get_args(annotation)[0] in (int, float):
            yield ".".join(path), annotation
        else:
            yield from _numbers(get_args(annotation)[0], path)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield from _numbers(get_args(annotation)[1], (*path, "*"))
    elif annotation in (int, float):
        yield ".".join(path), annotation
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from numbers(annotation, path)


NUMBERS = dict(numbers(job_model()))


def test_the_settings_are_found() -> None:
    assert {"project.learning_rate", "label.seed", "engine.resources.embed.cpus", "corpus.limit"} <= set(NUMBERS)
    assert len(NUMBERS) > 60


@pytest.mark.parametrize("path", sorted(NUMBERS))
def test_a_number_has_bounds(path: str) -> None:
    adapter = TypeAdapter(NUMBERS[path])
    for far in (-1e30, 1e30, -(10**30), 10**30):
        with pytest.raises(ValidationError):
            adapter.validate_python(far)


@pytest.mark.parametrize("setting", ["project.learning_rate", "update.drift.cluster_growth", "storage.budget"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e30", "-1"])
def test_invalid_quantities_are_refused(setting: str, value: str) -> None:
    values = {**LEAST}
    apply_overrides(values, [f"{setting}={value}"])
    with pytest.raises(ConfigError, match=setting if not setting.startswith("storage") else "budget"):
        parse_job(values, where="the settings")


@pytest.mark.parametrize("group", ["project", "cluster", "label"])
def test_seeds_are_limited_to_those_of_random_generators(group: str) -> None:
    for bad in (-1, 2**32):
        with pytest.raises(ConfigError, match=f"{group}.seed"):
            parse_job({**LEAST, group: {"seed": bad}}, where="")
    assert getattr(parse_job({**LEAST, group: {"seed": 0}}, where=""), group).seed == 0


def test_the_curve_of_every_allowed_pair_is_fitted_without_a_warning() -> None:
    with pytest.raises(ConfigError, match=r"project\.spread"):
        parse_job({**LEAST, "project": {"min_dist": 5}}, where="")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for spread in (0.01, 0.1, 1, 3, 10):
            for share in (0, 0.1, 0.5, 0.9, 1):
                a, b = fit_ab(spread=spread, min_dist=share * spread)
                assert 0 < a < 1e12
                assert 0 < b < 20


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("corpus.delimiter=|", "|"),
        ("corpus.delimiter=;", ";"),
        ("corpus.delimiter='|'", "|"),
        (r"corpus.delimiter=\t", "\t"),
        ("corpus.text=no", "no"),
        ("corpus.text={title}: {body}", "{title}: {body}"),
        ("corpus.text=[x]", "[x]"),
        ("corpus.text=*", "*"),
        ("corpus.id=007", "007"),
        ("corpus.where=a = 'it''s' # no comment", "a = 'it''s' # no comment"),
        ("corpus.where=null", None),
        ("corpus.limit=010", 10),
        ("corpus.sample=1e-3", 0.001),
        ("publish.title=2026-01-01", "2026-01-01"),
        ("publish.title=A: B", "A: B"),
        ("publish.viewer=no", False),
        ("publish.columns=[a, b]", ("a", "b")),
        ("project.mode=fast", "fast"),
        ("engine.resources.embed.memory=4GB", 4_000_000_000),
        ("engine.address='auto'", "auto"),
        ("cluster.min_cluster_size=null", None),
    ],
)
def test_a_value_is_read_by_the_type_of_its_setting(override: str, value: object) -> None:
    values: dict[str, Any] = {"corpus": {"sources": "x.csv"}, "out": "maps/x"}
    apply_overrides(values, [override])
    found: Any = parse_job(values, where="")
    for part in override.partition("=")[0].split("."):
        found = getattr(found, part)
    assert found == value


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases written out"),
        ("a: &a [*a]\n", "holds it"),
        ("a: " + "[" * 5_000 + "]" * 5_000, "nested"),
        ("a: " + "[" * 60 + "]" * 60, "nested"),
        ("a: " + "x" * 5_000_000, "characters"),
        ("a: !!python/object/apply:os.system [ls]\n", "no YAML"),
        ("a: 2026-99-99\n", "no YAML"),
        ("cluster: {min_samples: 5}\nlabel: {}\ncluster: {method: kmeans}\n", "'cluster' stands twice .* line 1 and 3"),
        ("corpus: {id: a, text: b, id: c}\n", "'id' stands twice .* line 1"),
    ],
)
def test_yaml_is_bounded(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as refused:
        read_yaml(path)
    assert refused.value.where == str(path)
    assert len(str(refused.value)) < 1_000


def test_an_alias_may_be_altered_by_a_key_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("corpus: &a {text: a, id: b}\nname: x\ncluster: {<<: *a, text: c}\n")
    assert read_yaml(path)["cluster"] == {"text": "c", "id": "b"}


@pytest.mark.parametrize(
    ("override", "said", "hint"),
    [
        ("publish.columns=section", "is a list", "[section]"),
        ("engine.resources=4", "is a mapping", "{name: value}"),
    ],
)
def test_errors_show_the_form_of_a_list_or_mapping(override: str, said: str, hint: str) -> None:
    values: dict[str, Any] = {"corpus": {"sources": "x.csv"}, "out": "maps/x"}
    apply_overrides(values, [override])
    with pytest.raises(ConfigError, match=said) as refused:
        parse_job(values, where="")
    assert hint in str(refused.value.hint)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"publish": {"title": "caf\udce9"}}, "publish.title"),
        ({"publish": {"columns": ["a", "caf\udce9"]}}, "publish.columns"),
        ({"publish": PublishConfig(title="caf\udce9")}, "publish.title"),
        ({"corpus": {"sources": "x.csv", "exclude": "caf\udce9.txt"}}, "corpus.exclude"),
        ({"label": {"options": {"caf\udce9": 1}}}, "label.options"),
    ],
)
def test_half_a_surrogate_pair_is_no_setting(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key} is not UTF-8 text \(given: 'caf\\xe9"):
        parse_job({**LEAST, **settings}, where="")


def test_a_file_whose_name_is_not_utf8_may_be_the_corpus() -> None:
    assert parse_job({"corpus": {"sources": ["caf\udce9.csv"]}, "out": "maps/x"}, where="").corpus.sources


def test_a_message_repeats_only_the_beginning_of_a_value() -> None:
    with pytest.raises(ConfigError) as refused:
        parse_job({**LEAST, "name": "/" * 100_000}, where="")
    assert len(str(refused.value)) < 500
    values: dict[str, Any] = {}
    for bad in ("x" * 10_000, "corpus.sources=" + "[" * 10_000):
        with pytest.raises(ConfigError) as refused:
            apply_overrides(values, [bad])
        assert len(str(refused.value)) < 400


@pytest.mark.parametrize("value", ["secret", "secret\udce9"])
def test_possible_secrets_are_never_repeated(value: str) -> None:
    for settings in ({"storage": {"key_variable": [value]}}, {"engine": {"pass_environment": value}}):
        with pytest.raises(ConfigError) as refused:
            parse_job({**LEAST, **settings}, where="")
        assert "secret" not in str(refused.value)
