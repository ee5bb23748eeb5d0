"""The settings as typed keyword arguments: written by tests/sdk/typed_settings.py, not by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from latentscale.config.corpus import CorpusConfig
from latentscale.config.engine import EngineConfig
from latentscale.config.stages import (
    ClusterConfig,
    DriftConfig,
    EmbedConfig,
    IngestConfig,
    LabelConfig,
    NeighborsConfig,
    ProjectConfig,
    PublishConfig,
    QualityConfig,
)
from latentscale.config.store import StorageConfig


class CorpusSettings(TypedDict, total=False):
    """The corpus: sources, format and selection."""

    sources: Sequence[str]
    """Files, directories, globs or fsspec URLs; the word `demo` is the corpus that comes with LatentScale."""

    text: str | None
    """The text column, a template of columns such as "{title}\\n{abstract}", or a path into nested values, such as
    "meta.title" or "messages[role=user].content". Files of plain text need none."""

    id: str | None
    """The column that identifies a document. The last document of an id wins."""

    format: Literal["auto", "parquet", "csv", "tsv", "jsonl", "json", "arrow", "excel", "lines", "files"]
    """How to read the sources; `auto` goes by the file name. `lines`: a document a line, `files`: a document a file."""

    sheet: str | None
    """The sheet of Excel files; by default the first."""

    follow_links: bool | None
    """Whether to read what links lead to outside of a source; by default where a pattern names the link itself."""

    encoding: str
    """Character encoding of CSV, JSONL and text files."""

    delimiter: str | None
    """Column separator of CSV files; by default a comma, for .tsv a tab, or what the first lines show."""

    quote: str | None
    """Character around CSV fields; empty for none; by default a double quote, or a single one if the header has it."""

    escape: str | None
    """Character before a quote in a quoted CSV field; empty where quotes are doubled; by default found out."""

    header: bool
    """Whether the first line of CSV files names the columns; without it they are column_1, column_2 and so on."""

    comment: str | None
    """Lines that begin with it are skipped before the header of CSV files; empty for none; by default #."""

    skip_lines: int
    """Lines to skip at the beginning of CSV files, before the header."""

    where: str | None
    """A SQL condition on the source columns, run by polars, such as "year >= 2020 AND lang = 'en'"."""

    limit: int | None
    """Maximum number of documents: the first ones are used."""

    sample: float | None
    """Share of the documents to use, chosen by a hash of the id (or of the text), so that it is stable."""

    exclude: Sequence[str]
    """Files with ids of documents to leave out: .txt, one a line; .csv or .parquet, with the id column or `row_id`."""

    only: str | None
    """A file with the ids of the documents to take alone; forms as of `exclude`."""

    exclude_clusters: Sequence[int]
    """Clusters of the current map, of the finest layer, whose documents are left out, with all that it leaves out."""

    vectors: str | None
    """The column of embedding vectors, for `embed.model: column`, or a .npy or .parquet file with a row for each of one
    table; "{folder}/{name}.npy" is one beside each table. A parquet file that has the column `id` too must have the
    same ids row by row."""

    max_zstd_window: int
    """Bytes of memory that a .zst file may ask for; `zstd --long=31` asks for 2147483648."""

    max_expansion: int
    """Beyond 32 MB of content, a file that holds more than so many times its own size is refused."""

    storage: StorageConfig | Mapping[str, Any] | None
    """How to reach the sources, as in `storage`; by default that, where the protocol is the same as that of `out`."""


class IngestSettings(TypedDict, total=False):
    """How the corpus is cut into shards, and which rows are rejected."""

    shard_rows: int
    """Rows in a shard at most: the unit of I/O and of resume."""

    shard_bytes: int
    """Bytes of text and columns in a shard at most (a shard ends at whichever bound comes first)."""

    max_text_characters: int
    """A longer text goes to the rejects."""

    max_columns: int
    """Columns of a table at most, beside the text; one with more is refused."""

    max_reject_fraction: float
    """A larger share of rejects ends the run before anything is embedded."""

    fingerprint: Literal["auto", "stat", "content"]
    """How an input file is recognised: by path, size and modification time (or ETag), or by path and bytes. `auto` goes
    by bytes for up to 10,000 local files of 1 GiB in all, and in an existing workspace as its runs did before."""


class EmbedSettings(TypedDict, total=False):
    """How documents become vectors."""

    model: str
    """`static` (ships with LatentScale), `column` (vectors of the corpus), a folder or hub id of a model
    (`organisation/name`; `latentscale models list`), or the name of an embedder that another package adds."""

    kind: str
    """What computes the vectors: `static`, `transformers` and the others that `latentscale doctor` lists, or `auto`:
    the first that knows the model."""

    max_tokens: int
    """Tokens of a text that are used; the rest is ignored."""

    dtype: Literal["float16", "float32"]
    """Data type of the stored vectors."""

    max_unembeddable_fraction: float
    """A larger share of documents without a vector ends the run: they would be on no map."""

    duplicates: Literal["shard", "corpus"]
    """Where a text is embedded once: in each `shard`, or in the whole `corpus`, for which all texts are read and hashed
    first. The vectors are the same."""

    options: Mapping[str, Any]
    """Further settings of the embedder, for one that has any of its own; keys and secrets are refused here."""


class NeighborsSettings(TypedDict, total=False):
    """The nearest-neighbour graph that all later stages share."""

    k: int | None
    """Neighbours kept; by default what the other stages ask for."""

    method: str
    """`exact`, `pynndescent` or an approximate search of another backend; `auto` is exact for small sets."""

    recall: float
    """The search is widened until its recall@15, measured on a sample, reaches this."""

    backend: str
    """What computes it: `cpu`, another backend that is installed, or `auto`: one that can run where the stage runs."""


class ProjectSettings(TypedDict, total=False):
    """The layout: UMAP in two dimensions for the map, and in a few more for clustering."""

    n_neighbors: int
    """Number of neighbours of UMAP; more preserve global structure, fewer local detail."""

    min_dist: float
    """How tightly UMAP packs the map; at most `spread`."""

    spread: float
    """The scale of the embedded points."""

    n_epochs: int | None
    """Steps of the optimisation; by default 500 for a map of up to 10,000 documents, else 200."""

    init: Literal["auto", "pca", "earlier"]
    """Where the layouts start: from principal components; or `earlier`, from those of the current map, which the new
    one then resembles at less cost: documents start where they were, new ones at the mean of their neighbours that
    were. The optimisation then has a tenth of the learning rate and, by default, 100 steps. `auto`: `earlier` for the
    refit of a map whose labels were edited, of which more edits then hold, and for stages of such a refit that are run
    again; else `pca`."""

    negative_sample_rate: int
    """Negative samples for each positive one."""

    learning_rate: float
    """UMAP's initial learning rate."""

    density_weight: float
    """How much the map keeps of how densely documents lie in the embedding (densMAP): UMAP alone, at 0, draws dense and
    sparse topics alike. About 0.2 keeps most of it at little cost for neighbourhoods; umap-learn's `dens_lambda`."""

    map_dimensions: int
    """`3`: documents get a height, `z`, above the flat map, whose `x` and `y` it leaves as they are; the page can turn
    the map in space."""

    cluster_dimensions: int
    """Dimensions of the second layout, on which clusters are found (with min_dist 0); 1 is a line."""

    mode: Literal["auto", "exact", "fast"]
    """`exact`: repeatable to the bit on one kind of machine; `fast`: parallel, each run another map. `auto` is exact
    for small sets: on processors, which then use one thread, up to 20,000 documents."""

    seed: int
    """Seed of all random choices."""

    preview: bool | None
    """Whether the map is shown while it is being laid out: `preview.html` in the workspace, after each quarter of the
    steps; by default where a run publishes the page of 200,000 documents or more. The map is the same with it."""

    backend: str
    """What computes it: `cpu`, another backend that is installed, or `auto`: one that can run where the stage runs."""


class ClusterSettings(TypedDict, total=False):
    """How clusters are found."""

    method: Literal["hdbscan", "plscan", "kmeans", "dbscan", "agglomerative", "column"]
    """HDBSCAN, PLSCAN (the extra `plscan`), K-means, DBSCAN, Ward's method, or an existing column of the corpus."""

    space: Literal["auto", "layout", "vectors", "map"]
    """What is clustered: the layout of `project.cluster_dimensions`, the vectors, or the map's x and y. `auto`: the
    vectors for K-means, the layout for the other methods."""

    min_cluster_size: int | None
    """Documents in a cluster at least; by default a five-hundredth of the corpus, between 5 and 2,000. PLSCAN chooses
    this or a larger one, by default from `min_samples` on."""

    min_samples: int | None
    """How conservative HDBSCAN, PLSCAN and DBSCAN are; by default 10, or less for small `min_cluster_size`."""

    eps: float | None
    """Distance within which documents of a cluster of DBSCAN have their neighbours; by default that at which nine in
    ten documents have joined another."""

    cluster_selection_method: Literal["eom", "leaf"]
    """`leaf` gives more and more even clusters."""

    cluster_selection_epsilon: float
    """Clusters closer than this are not split."""

    n_clusters: int | None
    """Clusters of K-means, by default chosen by a silhouette curve; or of Ward's method, which needs a number."""

    column: str | None
    """The source column that holds the clusters, for `method: column`."""

    levels: Sequence[int] | None
    """Clusters of each layer, about, the finest first: `[60, 20, 5]`, each at most half of the one before; or "about
    40": so many finest ones, and coarser layers as without it."""

    layer_factor: float
    """How many times fewer clusters each coarser layer has, about: where the clusters are most clearly apart."""

    max_layers: int
    """Layers in all, the finest included."""

    seed: int
    """Seed of K-means, and of the centroids that Ward's method joins."""

    backend: str
    """What computes it: `cpu`, another backend that is installed, or `auto`: one that can run where the stage runs."""


class LabelSettings(TypedDict, total=False):
    """How clusters get their names."""

    method: str
    """`keyphrases` (c-TF-IDF); names that people gave (`curated`); a language model over HTTP (`endpoint`) or in the
    job (`vllm`, `transformers`); or the labeler of another package."""

    max_keyphrases: int
    """Keyphrases kept for a cluster."""

    exemplars: int
    """Exemplars chosen for a cluster."""

    max_documents_per_cluster: int
    """Documents of a cluster that are read for its keyphrases."""

    ngram_range: Sequence[int]
    """Words of the shortest and of the longest keyphrase."""

    stop_words: str | Sequence[str] | None
    """A text file with words that are in no keyphrase, or these words, beside those of the corpus's languages."""

    edits: str | Sequence[Mapping[str, Any]] | None
    """A file of edits by hand, as `latentscale labels export` writes it, or its entries: applied at every labelling."""

    seed: int
    """Seed of the samples."""

    options: Mapping[str, Any]
    """Further settings of the labeler, for one that has any of its own; keys and secrets are refused here."""


class QualitySettings(TypedDict, total=False):
    """What is measured of a map."""

    sample: int
    """Documents on which trustworthiness and neighbour preservation are measured."""

    against: str | None
    """A source column with known classes: NMI, ARI and purity are reported against it."""

    stability: bool
    """Also measure the agreement of the clusters of two seeds; costs a second layout."""


class PublishSettings(TypedDict, total=False):
    """What is published: columns, text, partitions, the page."""

    columns: Sequence[str] | None
    """Source columns in the points and on the page; by default all."""

    text: Literal["page", "points", "none"]
    """`page`: the text is on the page, `points`: also in points/, `none`: in neither."""

    partition_by: str | None
    """A source column, or a layer such as "layer_1", by which points/ is partitioned."""

    viewer: bool
    """Whether the viewer is written."""

    search: bool
    """Whether the page finds documents by their words: an index of them, about 100 bytes a document."""

    semantic: bool
    """Whether the page finds documents by the meaning of what is typed, for vectors of a static model with BERT's
    tokenizer, as the shipped one: about 130 bytes a document and 7 MB for the model's tokens."""

    noise: Literal["keep", "nearest"]
    """Documents in no cluster on the page: `keep` shows them as such, `nearest` colours and counts them with their
    nearest cluster. points/ has both columns either way."""

    title: str | None
    """Title of the page; by default the workspace's name."""

    images: str | None
    """A source column with addresses of images, which the page shows on a document's card: https addresses, or ones
    relative to the folder that holds `viewer/`."""

    image_origins: Sequence[str]
    """Where the page may load images from, such as https://images.example.org; beside its own origin, nowhere else."""

    url: str | None
    """Where the page will be found, such as https://example.org/films/viewer/: with it, sites on which its address is
    shared show its picture; most of them need the whole address of one."""


class DriftSettings(TypedDict, total=False):
    """When the documents that came since a fit are so different that a new one is due."""

    added_share: float
    """Documents that were added since the fit, as a share of those fitted."""

    removed_share: float
    """Removed documents of the fit, as a share of those fitted."""

    ood_share: float
    """Share of the added documents that are farther from the fit than 95 in 100 of its own."""

    noise_increase: float
    """By how much the share of noise may be higher among the added documents."""

    cluster_growth: float
    """How many documents a cluster may gain for each that it was fitted with."""


class UpdateSettings(TypedDict, total=False):
    """How a map grows."""

    recall: float
    """The search for the fitted neighbours of a new document is widened until its recall reaches this."""

    max_removed_fraction: float
    """If a larger share of the map's documents is missing from the corpus, the update fails and changes nothing."""

    drift: DriftConfig | DriftSettings
    """Thresholds of drift from which a refit is due."""


class EngineSettings(TypedDict, total=False):
    """The engine that runs the stages."""

    name: Literal["auto", "local", "ray"]
    """`local`: this machine; `ray`: a Ray cluster; `auto`: `ray` with an address and in a submitted Ray job."""

    address: str | None
    """Of a Ray cluster: `auto`, host:port or ray://host:port; by default RAY_ADDRESS, else one is started here."""

    workers: int | None
    """Workers of each shard stage: processes or Ray actors; by default as many as there is room for."""

    threads: int | None
    """Threads for stages that use them; by default the processors that this process may use."""

    memory: int
    """Bytes of memory that a job may take on this machine, or a text such as "8GB"; 0: what is free. A job that would
    need more, by the estimate of `latentscale plan`, is refused before it begins."""

    resources: Mapping[str, Mapping[str, Any]]
    """What the workers of a stage get: `{embed: {gpus: 1, memory: 8GB, workers: 4}}`; see docs/operations.md."""

    on_shortage: Literal["refuse", "warn"]
    """What to do where memory or disk seem too small for the job, as `latentscale plan` estimates: refuse it before it
    begins, or warn and try."""

    wait_seconds: float
    """How long to wait for resources of a cluster that others hold."""

    stall_seconds: float
    """The run fails when no shard was finished for this long."""

    runtime_env: str | Mapping[str, Any] | None
    """Ray's runtime environment of the workers (working_dir, pip, env_vars …), or the YAML or JSON file with it."""

    pass_environment: Sequence[str]
    """Names of environment variables whose values the workers get; the values are in no record."""


class StageSettings(TypedDict, total=False):
    """Settings by stage."""

    ingest: IngestConfig | IngestSettings
    """How the corpus is cut into shards, and which rows are rejected."""

    embed: EmbedConfig | EmbedSettings
    """How documents become vectors."""

    neighbors: NeighborsConfig | NeighborsSettings
    """The nearest-neighbour graph that all later stages share."""

    project: ProjectConfig | ProjectSettings
    """The layout: UMAP in two dimensions for the map, and in a few more for clustering."""

    cluster: ClusterConfig | ClusterSettings
    """How clusters are found."""

    label: LabelConfig | LabelSettings
    """How clusters get their names."""

    quality: QualityConfig | QualitySettings
    """What is measured of a map."""

    engine: EngineConfig | EngineSettings
    """The engine that runs the stages."""


class JobSettings(StageSettings, total=False):
    """Settings of a whole job."""

    corpus: CorpusConfig | CorpusSettings
    """The corpus: sources, format and selection."""

    publish: PublishConfig | PublishSettings
    """What is published: columns, text, partitions, the page."""
