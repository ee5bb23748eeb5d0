from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from latentscale.config import (
    JobConfig,
    PublishConfig,
    apply_overrides,
    check_job_file,
    parse_job,
    read_yaml,
    relative_to_file,
)
from latentscale.config.scaffold import job_schema, job_yaml
from latentscale.errors import ConfigError
from latentscale.stages.publish import publish_settings

LEAST = {"corpus": {"sources": "x.csv"}, "out": "maps/x"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**LEAST, "projekt": {}}, "Did you mean 'project'"),
        ({**LEAST, "project": {"n_neighbours": 3}}, "Did you mean 'n_neighbors'"),
        ({**LEAST, "min_dist": 0.3}, "Did you mean 'project.min_dist'"),
        ({**LEAST, "project": {"n_neighbors": "many"}}, "project.n_neighbors"),
        ({**LEAST, "neighbors": {"k": 5}}, "set neighbors.k to 14 or more"),
        ({**LEAST, "name": "../x"}, "is not a name"),
        ({**LEAST, "embed": {"model": "column"}}, "go together"),
        ({**LEAST, "cluster": {"method": "column"}}, "go together"),
        ({"corpus": {"sources": "x.csv"}}, "'out' is missing"),
        ({**LEAST, "corpus": {"sources": "x.csv", "encoding": "utf-9"}}, "utf-9"),
        *(
            ({**LEAST, "corpus": {"sources": "x.csv", "encoding": name}}, name)
            for name in ("hex", "rot13", "idna", "punycode", "undefined")
        ),
    ],
)
def test_a_wrong_setting_is_reported_with_valid_values(values: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_job(values, where="job.yaml")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 6
    assert caught.value.exit_code == 2


def test_overrides_take_precedence_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("corpus: {sources: [a.csv], text: body}\nout: maps/a\n")
    values = read_yaml(path)
    apply_overrides(values, ["project.n_neighbors=30", "corpus.limit=5", "cluster.method=kmeans"])
    job = parse_job(values, where=str(path))
    assert (job.project.n_neighbors, job.corpus.limit, job.cluster.method) == (30, 5, "kmeans")
    for bad in ("project.n_neighbors", "=3", "out.x=3"):
        with pytest.raises(ConfigError):
            apply_overrides(dict(values), [bad])


def test_yaml_that_is_not_a_job_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    for text in ("- a\n- b\n", "a: [\n", "project: 3\n"):
        path.write_text(text)
        with pytest.raises(ConfigError):
            read_yaml(path)


def test_the_text_template_names_its_columns() -> None:
    job = parse_job({**LEAST, "corpus": {"sources": "x", "text": "{title}\n{abstract} {title}"}}, where="")
    assert job.corpus.text_columns() == ("title", "abstract")
    assert job.corpus.is_template()


def test_the_written_job_is_one_and_shows_every_setting() -> None:
    text = job_yaml()
    assert parse_job(yaml.safe_load(text), where="job.yaml") == parse_job(
        {"corpus": {"sources": ["demo"], "text": "text"}, "out": "maps/demo"}, where=""
    )
    # With the comments taken away every default is valid too, and no setting is left out.
    opened = "\n".join(
        line.replace("# ", "", 1) if line.lstrip().startswith("# ") and _is_setting(line) else line
        for line in text.splitlines()
    )
    values = yaml.safe_load(opened)
    job = JobConfig.model_validate(values)
    for name, field in job_schema()["properties"].items():
        assert name in values or field.get("default") is None, name
    for group in ("project", "cluster", "publish", "engine"):
        assert set(values[group]) == set(type(getattr(job, group)).model_fields)
    # And what a comment shows is the default, in groups within groups too.
    assert job == parse_job(yaml.safe_load(text), where="job.yaml")
    assert values["update"]["drift"]["added_share"] == JobConfig.model_validate(values).update.drift.added_share
    assert set(values["engine"]["resources"]["embed"]) == set(type(job.engine.resources.embed).model_fields)


def _is_setting(line: str) -> bool:
    name, separator, _ = line.lstrip()[2:].partition(":")
    return bool(separator) and name in set(_names(JobConfig))


def _names(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation)


@pytest.mark.parametrize("folder", ["", "jobs"])
def test_paths_of_a_job_file_are_relative_to_the_file(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs" / "corpus").mkdir(parents=True)
    (tmp_path / "jobs" / "model").mkdir()
    if not folder:
        monkeypatch.chdir(tmp_path / "jobs")
    path = Path(folder) / "job.yaml"
    full = str(tmp_path / "full.csv")
    values = {
        "corpus": {"sources": ["corpus/", "corpus/*.csv", "demo", "s3://raw/news", full]},
        "out": "../maps",
        "embed": {"model": "model"},
    }
    relative_to_file(values, path)
    if not folder:
        assert values["corpus"]["sources"][0] == "corpus/"
        return
    assert values["corpus"]["sources"] == ["jobs/corpus/", "jobs/corpus/*.csv", "demo", "s3://raw/news", full]
    assert values["out"] == "maps"
    assert values["embed"]["model"] == "jobs/model"
    for vectors, moved in (
        ("v.npy", "jobs/v.npy"),
        ("v/{name}.npy", "jobs/v/{name}.npy"),
        ("{folder}/{name}.npy", "{folder}/{name}.npy"),
        ("vector", "vector"),
    ):
        held: dict[str, Any] = {"corpus": {"sources": "demo", "vectors": vectors}}
        relative_to_file(held, path)
        assert held["corpus"]["vectors"] == moved
    static = {"corpus": {"sources": "demo"}, "embed": {"model": "static"}}
    relative_to_file(static, path)
    assert static == {"corpus": {"sources": "demo"}, "embed": {"model": "static"}}


def test_a_path_that_was_meant_from_the_shells_folder_is_not_guessed_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "maps").mkdir()
    with pytest.raises(ConfigError, match="relative to the file") as caught:
        relative_to_file({"corpus": {"sources": "demo"}, "out": "maps"}, "jobs/job.yaml")
    assert "../maps" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("corpus: {sources: x.csv, text: 5}", "corpus.text"),
        ("corpus: {sources: x.csv}\nclutser: {}", "no setting 'clutser'"),
        ("sources: x.csv\nout: maps/x", "no setting 'sources'"),
        ("corpus: {sources: x.csv}\ncluster: {min_samples: many}", "cluster.min_samples"),
        ("corpus: x.csv", "corpus is not a group"),
    ],
)
def test_errors_in_a_job_file_name_the_file(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        check_job_file(read_yaml(path), path)
    assert caught.value.where == str(path)
    assert caught.value.hint


def test_values_that_an_option_may_add_are_not_required_in_a_job_file(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("corpus: {text: body}\nout:\ncluster:\n  # method: kmeans\nembed: {model: column}\n")
    values = read_yaml(path)
    check_job_file(values, path)
    assert values == {"corpus": {"text": "body"}, "embed": {"model": "column"}}


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-32", "cp1252", "gb18030", "shift_jis", "utf-7", "cp037"])
def test_encodings_of_text_are_accepted(name: str) -> None:
    assert parse_job({**LEAST, "corpus": {"sources": "x.csv", "encoding": name}}, where="job").corpus.encoding == name


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        ({"method": "agglomerative"}, "needs a number of clusters"),
        ({"eps": 0.2}, "cluster.eps is a setting of cluster.method 'dbscan'"),
        ({"method": "dbscan", "levels": [20]}, "DBSCAN has no number of clusters"),
        ({"method": "dbscan", "eps": 0}, "cluster.eps"),
        ({"method": "plscan", "levels": [20]}, "PLSCAN chooses the number"),
        ({"method": "plscan", "cluster_selection_method": "leaf"}, "takes leaves"),
        ({"method": "plscan", "min_samples": 1}, "2 or more"),
        ({"method": "plscan", "min_samples": 12, "min_cluster_size": 9}, "fewer than min_samples=12"),
        ({"method": "column", "column": "x", "space": "map"}, "cluster.space: the clusters of a column are its values"),
        ({"space": "sphere"}, "cluster.space"),
    ],
)
def test_a_method_of_clusters_has_its_settings_and_no_others(cluster: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_job({**LEAST, "cluster": cluster}, where="")
    assert parse_job({**LEAST, "cluster": {"method": "agglomerative", "levels": [20, 5]}}, where="").cluster.levels


@pytest.mark.parametrize(
    ("cluster", "clustered"),
    [
        ({}, "layout"),
        ({"method": "kmeans"}, "vectors"),
        ({"method": "kmeans", "space": "layout"}, "layout"),
        ({"method": "dbscan", "space": "map"}, "map"),
        ({"method": "column", "column": "x"}, None),
        # As records of earlier versions have it, where K-means and columns took no notice.
        ({"space": "projection"}, "layout"),
        ({"method": "kmeans", "space": "projection"}, "vectors"),
        ({"method": "column", "column": "x", "space": "projection"}, None),
    ],
)
def test_each_method_clusters_its_documented_space(cluster: dict[str, object], clustered: str | None) -> None:
    job = parse_job({**LEAST, "cluster": cluster}, where="")
    assert job.cluster.clustered == clustered
    assert parse_job(job.model_dump(mode="json"), where="").cluster.clustered == clustered


@pytest.mark.parametrize(
    "origin",
    [
        *("https://images.example.org/", "https://*.example.org", "https://Images.example.org", "images.example.org"),
        *("https://a.example.org; script-src *", "https://a.example.org\n", "https://a.example.org:0", "https://a b"),
        *("data:", "'self'", "*"),
    ],
)
def test_an_origin_of_images_is_no_more_than_one(origin: str) -> None:
    with pytest.raises(ConfigError, match="is no origin"):
        parse_job({**LEAST, "publish": {"images": "i", "image_origins": [origin]}}, where="")


def test_origins_of_images_belong_to_a_column_of_them() -> None:
    origins = ["https://a.example.org", "http://127.0.0.1:8000", "https://a.example.org"]
    with pytest.raises(ConfigError, match=r"publish\.images names no column"):
        parse_job({**LEAST, "publish": {"image_origins": origins}}, where="")
    config = parse_job({**LEAST, "publish": {"images": "i", "image_origins": origins}}, where="").publish
    assert config.image_origins == ("https://a.example.org", "http://127.0.0.1:8000")
    assert publish_settings(config, title=None)["image_origins"] == list(config.image_origins)
    assert not {"images", "image_origins"} & set(publish_settings(PublishConfig(), title=None))


@pytest.mark.parametrize("url", ["viewer/", "//a.example.org/", "ftp://a.example.org/", 'https://a.example.org/"x', ""])
def test_the_address_of_a_page_is_a_whole_one(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a page"):
        parse_job({**LEAST, "publish": {"url": url}}, where="")


def test_the_address_of_a_page_is_that_of_its_folder() -> None:
    for url in ("https://a.example.org/maps", "https://a.example.org/maps/", "https://a.example.org/maps/index.html"):
        config = parse_job({**LEAST, "publish": {"url": url}}, where="").publish
        assert publish_settings(config, title=None)["url"] == "https://a.example.org/maps/"
    assert "url" not in publish_settings(PublishConfig(), title=None)
