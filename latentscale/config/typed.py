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
    """The column that identifies a document. The last document with an id wins."""

    format: Literal["auto", "parquet", "csv", "tsv", "jsonl", "json", "arrow", "excel", "lines", "files"]
    """How to read the sources; `auto` goes by the file name. `lines`: one document per line, `files`: one per file."""

    sheet: str | None
    """The sheet of Excel files; by default the first."""

    follow_links: bool | None
    """Whether to follow links that lead outside of a source; by default only links that a pattern names."""

    encoding: str
    """Character encoding of CSV, JSONL and text files."""

    delimiter: str | None
    """Delimiter of CSV files; by default detected from the first lines, else a comma, or a tab for .tsv."""

    quote: str | None
    """Character around CSV fields; empty for none; by default a double quote, or a single one if the header uses it."""

    escape: str | None
    """Escape character of quotes in CSV fields; empty if quotes are doubled; by default detected."""

    header: bool
    """Whether the first line of CSV files names the columns; without it they are column_1, column_2 and so on."""

    comment: str | None
    """Prefix of comment lines before the header of CSV files, which are skipped; empty for none; by default #."""

    skip_lines: int
    """Lines to skip at the beginning of CSV files, before the header."""

    where: str | None
    """A SQL condition on the source columns, run by polars, such as "year >= 2020 AND lang = 'en'"."""

    limit: int | None
    """Maximum number of documents: the first ones are used."""

    sample: float | None
    """Share of the documents to use, chosen by a hash of the id (or of the text), so that it is stable."""

    exclude: Sequence[str]
    """Files of ids of documents to exclude: .txt, one per line; .csv or .parquet with the id column or `row_id`."""

    only: str | None
    """A file of ids of the only documents to include; formats as for `exclude`."""

    exclude_clusters: Sequence[int]
    """Clusters of the current map (finest layer) to exclude, in addition to what that map already excludes."""

    vectors: str | None
    """The column of embedding vectors, for `embed.model: column`, or a .npy or .parquet file with a row for each of one
    table; "{folder}/{name}.npy" is one beside each table. A parquet file that has the column `id` too must have the
    same ids row by row."""

    max_zstd_window: int
    """Maximum window of a .zst file, in bytes; `zstd --long=31` needs 2147483648."""

    max_expansion: int
    """Maximum ratio of decompressed to compressed size; a file of more than 32 MB beyond it is refused."""

    storage: StorageConfig | Mapping[str, Any] | None
    """Connection settings of the sources, as in `storage`; by default those, if the protocol is that of `out`."""


class IngestSettings(TypedDict, total=False):
    """How the corpus is split into shards, and which rows are rejected."""

    shard_rows: int
    """Maximum rows per shard, the unit of I/O and of resuming."""

    shard_bytes: int
    """Maximum bytes of text and columns per shard; a shard ends at whichever limit comes first."""

    max_text_characters: int
    """Longer texts are rejected."""

    max_columns: int
    """Maximum columns of a table besides the text; a table with more is refused."""

    max_reject_fraction: float
    """A larger share of rejects ends the run before anything is embedded."""

    fingerprint: Literal["auto", "stat", "content"]
    """How unchanged files are recognised: `stat`: by path, size and modification time (or ETag); `content`: by path and
    bytes. `auto`: `content` for up to 10,000 local files of 1 GiB in total; in an existing workspace, as before."""


class EmbedSettings(TypedDict, total=False):
    """How documents become vectors."""

    model: str
    """`static` (ships with LatentScale), `column` (vectors of the corpus), a folder or hub id of a model
    (`organisation/name`; `latentscale models list`), or the name of an embedder that another package adds."""

    kind: str
    """The embedder: `static`, `transformers` or another that `latentscale doctor` lists; `auto`: the first that knows
    the model."""

    max_tokens: int
    """Maximum tokens per text; the rest is ignored."""

    dtype: Literal["float16", "float32"]
    """Data type of the stored vectors."""

    max_unembeddable_fraction: float
    """A larger share of documents without a vector ends the run."""

    duplicates: Literal["shard", "corpus"]
    """Scope in which identical texts are embedded once: a `shard`, or the whole `corpus`, for which all texts are read
    and hashed first. The vectors are the same."""

    options: Mapping[str, Any]
    """Settings specific to the embedder; keys and secrets are refused here."""


class NeighborsSettings(TypedDict, total=False):
    """The nearest-neighbour graph that all later stages share."""

    k: int | None
    """Neighbours per document; by default as many as the later stages need."""

    method: str
    """`exact`, `pynndescent` or an approximate search of another backend; `auto` is exact for small corpora."""

    recall: float
    """Target recall@15 of an approximate search, measured on a sample; the search is widened until it is reached."""

    backend: str
    """`cpu`, `torch`, `cuml` or another installed backend; `auto`: the fastest measured of those that can run here."""


class ProjectSettings(TypedDict, total=False):
    """The layout: UMAP in two dimensions for the map, and in a few more for clustering."""

    n_neighbors: int
    """UMAP's number of neighbours: more preserve global structure, fewer local detail."""

    min_dist: float
    """How tightly UMAP packs the map; at most `spread`."""

    spread: float
    """The scale of the embedded points."""

    n_epochs: int | None
    """Optimisation epochs; by default 500 for a map of up to 10,000 documents, else 200."""

    init: Literal["auto", "pca", "earlier"]
    """Initial layout: `pca`, principal components; or `earlier`, the current map, which the new one then resembles at
    lower cost: documents start at their position, new ones at the mean of their neighbours' positions, with a tenth of
    the learning rate and, by default, 100 epochs. `auto`: `earlier` for the refit of a map whose labels were edited, so
    that more edits still apply, and for stages of such a refit that are run again; else `pca`."""

    negative_sample_rate: int
    """Negative samples per positive sample."""

    learning_rate: float
    """UMAP's initial learning rate."""

    density_weight: float
    """Weight of density preservation (densMAP, umap-learn's `dens_lambda`); 0 is plain UMAP, which draws dense and
    sparse topics alike. About 0.2 preserves most of the density at little cost for neighbourhoods."""

    map_dimensions: int
    """`3` adds a third coordinate, `z`; `x` and `y` are those of the 2-D map. The page can rotate the map."""

    cluster_dimensions: int
    """Dimensions of the second layout (min_dist 0), on which clusters are found."""

    mode: Literal["auto", "exact", "fast"]
    """`exact`: bitwise reproducible on one kind of machine; `fast`: parallel and not reproducible. `auto` is exact up
    to 20,000 documents on a CPU, which then uses one thread, and up to 5 million on a GPU."""

    seed: int
    """Seed of all random choices."""

    preview: bool | None
    """Whether `preview.html` in the workspace shows the layout after each quarter of its epochs; by default for runs
    that publish a page of 200,000 documents or more. The map is the same either way."""

    backend: str
    """`cpu`, `torch`, `cuml` or another installed backend; `auto`: the fastest measured of those that can run here."""


class ClusterSettings(TypedDict, total=False):
    """How clusters are found."""

    method: Literal["hdbscan", "plscan", "kmeans", "dbscan", "agglomerative", "column"]
    """HDBSCAN, PLSCAN (the extra `plscan`), K-means, DBSCAN, Ward's method, or an existing column of the corpus."""

    space: Literal["auto", "layout", "vectors", "map"]
    """What is clustered: the layout of `project.cluster_dimensions`, the vectors, or the map's x and y. `auto`: the
    vectors for K-means, the layout for all other methods."""

    min_cluster_size: int | None
    """Minimum documents per cluster; by default 1/500 of the corpus, between 5 and 2,000. PLSCAN chooses this or a
    larger size, by default from `min_samples` up."""

    min_samples: int | None
    """How conservative HDBSCAN, PLSCAN and DBSCAN are; by default 10, or less with a small `min_cluster_size`."""

    eps: float | None
    """DBSCAN's neighbourhood radius; by default the distance at which 90 % of the documents have joined a cluster."""

    cluster_selection_method: Literal["eom", "leaf"]
    """`leaf` gives more clusters, of more even sizes."""

    cluster_selection_epsilon: float
    """Clusters closer than this are not split."""

    n_clusters: int | None
    """Number of clusters of K-means, by default chosen by a silhouette curve, or of Ward's method, which needs one."""

    column: str | None
    """The source column that holds the clusters, for `method: column`."""

    levels: Sequence[int] | None
    """Approximate number of clusters per layer, finest first: `[60, 20, 5]`, each at most half of the one before; or
    "about 40" for the finest layer only, with coarser layers as by default."""

    layer_factor: float
    """Approximate ratio of cluster counts between layers; the exact count is where clusters separate best."""

    max_layers: int
    """Maximum layers, including the finest."""

    seed: int
    """Seed of K-means, and of the centroids that Ward's method joins."""

    backend: str
    """`cpu`, `torch`, `cuml` or another installed backend; `auto`: the fastest measured of those that can run here."""


class LabelSettings(TypedDict, total=False):
    """How clusters are labelled."""

    method: str
    """`keyphrases` (c-TF-IDF); names that people gave (`curated`); a language model over HTTP (`endpoint`) or in the
    job (`vllm`, `transformers`); or the labeler of another package."""

    max_keyphrases: int
    """Keyphrases per cluster."""

    exemplars: int
    """Exemplars per cluster."""

    max_documents_per_cluster: int
    """Documents per cluster that are read for its keyphrases."""

    ngram_range: Sequence[int]
    """Minimum and maximum words of a keyphrase."""

    stop_words: str | Sequence[str] | None
    """Additional stop words, or a text file of them; those of the corpus's languages always apply."""

    edits: str | Sequence[Mapping[str, Any]] | None
    """Manual edits, as a file written by `latentscale labels export` or as its entries; applied at every labelling."""

    seed: int
    """Seed of the samples."""

    options: Mapping[str, Any]
    """Settings specific to the labeler; keys and secrets are refused here."""


class QualitySettings(TypedDict, total=False):
    """Quality metrics of a map."""

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
    """Where texts are published: `page`: on the page; `points`: also in points/; `none`: in neither."""

    partition_by: str | None
    """A source column, or a layer such as "layer_1", by which points/ is partitioned."""

    viewer: bool
    """Whether the viewer is written."""

    search: bool
    """Whether the page has keyword search: an index of about 100 bytes per document."""

    semantic: bool
    """Whether the page has semantic search of typed text, for vectors of a static model with BERT's tokenizer, such as
    the shipped one: about 130 bytes per document and 7 MB for the model's tokens."""

    noise: Literal["keep", "nearest"]
    """Noise on the page: `keep` shows it as noise, `nearest` colours and counts it with the nearest cluster. points/
    has both columns either way."""

    title: str | None
    """Title of the page; by default the workspace's name."""

    images: str | None
    """A source column of image URLs, shown on a document's card: https URLs, or paths relative to the folder that holds
    `viewer/`."""

    image_origins: Sequence[str]
    """Origins the page may load images from besides its own, such as https://images.example.org."""

    url: str | None
    """URL at which the page will be served, such as https://example.org/films/viewer/. Link previews on other sites
    then show its picture, for which most of them need an absolute URL."""


class DriftSettings(TypedDict, total=False):
    """Thresholds of drift since the fit from which a refit is due."""

    added_share: float
    """Documents added since the fit, as a share of those fitted."""

    removed_share: float
    """Fitted documents that were removed, as a share of those fitted."""

    ood_share: float
    """Share of the added documents that are farther from the fit than 95 % of the fitted ones."""

    noise_increase: float
    """Increase of the noise share among the added documents."""

    cluster_growth: float
    """Documents added to a cluster, as a multiple of those it was fitted with."""


class UpdateSettings(TypedDict, total=False):
    """Updates of a map."""

    recall: float
    """Target recall of the search for a new document's fitted neighbours; it is widened until it is reached."""

    max_removed_fraction: float
    """If a larger share of the map's documents is missing from the corpus, the update fails and changes nothing."""

    drift: DriftConfig | DriftSettings
    """Thresholds of drift."""


class EngineSettings(TypedDict, total=False):
    """The engine that runs the stages."""

    name: Literal["auto", "local", "ray"]
    """`local`: this machine; `ray`: a Ray cluster; `auto`: `ray` with an address and in a submitted Ray job."""

    address: str | None
    """Ray cluster: `auto`, host:port or ray://host:port; by default RAY_ADDRESS, else a local one is started."""

    workers: int | None
    """Workers of ingest and embed (processes or Ray actors); by default as many as fit."""

    threads: int | None
    """Threads of multithreaded stages; by default the CPUs that this process may use."""

    memory: int
    """Memory limit of a job on this machine, in bytes or as text such as "8GB"; 0: the free memory. A job that would
    need more, by the estimate of `latentscale plan`, is refused before it starts."""

    resources: Mapping[str, Mapping[str, Any]]
    """Resources of a stage's workers: `{embed: {gpus: 1, memory: 8GB, workers: 4}}`; see docs/operations.md."""

    on_shortage: Literal["refuse", "warn"]
    """When memory or disk are too small for the job, by the estimate of `latentscale plan`: refuse it before it starts,
    or warn and try."""

    wait_seconds: float
    """Seconds to wait for resources of a busy cluster."""

    stall_seconds: float
    """The run fails when no shard finishes for so many seconds."""

    runtime_env: str | Mapping[str, Any] | None
    """Ray runtime environment of the workers (working_dir, pip, env_vars …), or a YAML or JSON file with it."""

    pass_environment: Sequence[str]
    """Names of environment variables that are passed to the workers; their values are not recorded."""


class StageSettings(TypedDict, total=False):
    """Settings by stage."""

    ingest: IngestConfig | IngestSettings
    """How the corpus is split into shards, and which rows are rejected."""

    embed: EmbedConfig | EmbedSettings
    """How documents become vectors."""

    neighbors: NeighborsConfig | NeighborsSettings
    """The nearest-neighbour graph that all later stages share."""

    project: ProjectConfig | ProjectSettings
    """The layout: UMAP in two dimensions for the map, and in a few more for clustering."""

    cluster: ClusterConfig | ClusterSettings
    """How clusters are found."""

    label: LabelConfig | LabelSettings
    """How clusters are labelled."""

    quality: QualityConfig | QualitySettings
    """Quality metrics of a map."""

    engine: EngineConfig | EngineSettings
    """The engine that runs the stages."""


class JobSettings(StageSettings, total=False):
    """Settings of a whole job."""

    corpus: CorpusConfig | CorpusSettings
    """The corpus: sources, format and selection."""

    publish: PublishConfig | PublishSettings
    """What is published: columns, text, partitions, the page."""
