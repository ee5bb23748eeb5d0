"""The settings of each stage: the only source of their defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from latentscale.config.base import Seed, Settings
from latentscale.config.secrets import refuse_secrets

_ORIGIN = re.compile(r"https?://(?=.{1,253}(?::|$))[a-z0-9-]+(\.[a-z0-9-]+)*(:[1-9][0-9]{0,4})?")
_PAGE_URL = re.compile(r"https?://[a-z0-9-]+(\.[a-z0-9-]+)*(:[1-9][0-9]{0,4})?(/[^\s\"'<>?#]{0,1000})?")


class IngestConfig(Settings):
    """How the corpus is split into shards, and which rows are rejected."""

    shard_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 16_384
    """Maximum rows per shard, the unit of I/O and of resuming."""
    shard_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = 64 << 20
    """Maximum bytes of text and columns per shard; a shard ends at whichever limit comes first."""
    max_text_characters: Annotated[int, Field(ge=1, le=100_000_000)] = 1_000_000
    """Longer texts are rejected."""
    max_columns: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    """Maximum columns of a table besides the text; a table with more is refused."""
    max_reject_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """A larger share of rejects ends the run before anything is embedded."""
    fingerprint: Literal["auto", "stat", "content"] = "auto"
    """How unchanged files are recognised: `stat`: by path, size and modification time (or ETag); `content`: by path
    and bytes. `auto`: `content` for up to 10,000 local files of 1 GiB in total; in an existing workspace, as before."""


class EmbedConfig(Settings):
    """How documents become vectors."""

    model: str = "static"
    """`static` (ships with LatentScale), `column` (vectors of the corpus), a folder or hub id of a model
    (`organisation/name`; `latentscale models list`), or the name of an embedder that another package adds."""
    kind: str = "auto"
    """The embedder: `static`, `transformers` or another that `latentscale doctor` lists; `auto`: the first that knows
    the model."""
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Maximum tokens per text; the rest is ignored."""
    dtype: Literal["float16", "float32"] = "float16"
    """Data type of the stored vectors."""
    max_unembeddable_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A larger share of documents without a vector ends the run."""
    duplicates: Literal["shard", "corpus"] = "shard"
    """Scope in which identical texts are embedded once: a `shard`, or the whole `corpus`, for which all texts are
    read and hashed first. The vectors are the same."""
    options: Mapping[str, Any] = {}
    """Settings specific to the embedder; keys and secrets are refused here."""

    @field_validator("options")
    @classmethod
    def _no_secret(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        refuse_secrets(value)
        return value


class NeighborsConfig(Settings):
    """The nearest-neighbour graph that all later stages share."""

    k: Annotated[int, Field(ge=2, le=256)] | None = None
    """Neighbours per document; by default as many as the later stages need."""
    method: str = "auto"
    """`exact`, `pynndescent` or an approximate search of another backend; `auto` is exact for small corpora."""
    recall: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Target recall@15 of an approximate search, measured on a sample; the search is widened until it is reached."""
    backend: str = "auto"
    """`cpu`, `torch`, `cuml` or another installed backend; `auto`: the fastest measured of those that can run here."""


class ProjectConfig(Settings):
    """The layout: UMAP in two dimensions for the map, and in a few more for clustering."""

    n_neighbors: Annotated[int, Field(ge=2, le=200)] = 15
    """UMAP's number of neighbours: more preserve global structure, fewer local detail."""
    min_dist: Annotated[float, Field(ge=0, le=10)] = 0.1
    """How tightly UMAP packs the map; at most `spread`."""
    spread: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    """The scale of the embedded points."""
    n_epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Optimisation epochs; by default 500 for a map of up to 10,000 documents, else 200."""
    init: Literal["auto", "pca", "earlier"] = "auto"
    """Initial layout: `pca`, principal components; or `earlier`, the current map, which the new one then resembles at
    lower cost: documents start at their position, new ones at the mean of their neighbours' positions, with a tenth of
    the learning rate and, by default, 100 epochs. `auto`: `earlier` for the refit of a map whose labels were edited, so
    that more edits still apply, and for stages of such a refit that are run again; else `pca`."""
    negative_sample_rate: Annotated[int, Field(ge=1, le=100)] = 5
    """Negative samples per positive sample."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1.0
    """UMAP's initial learning rate."""
    density_weight: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Weight of density preservation (densMAP, umap-learn's `dens_lambda`); 0 is plain UMAP, which draws dense and
    sparse topics alike. About 0.2 preserves most of the density at little cost for neighbourhoods."""
    map_dimensions: Annotated[int, Field(ge=2, le=3)] = 2
    """`3` adds a third coordinate, `z`; `x` and `y` are those of the 2-D map. The page can rotate the map."""
    cluster_dimensions: Annotated[int, Field(ge=1, le=50)] = 5
    """Dimensions of the second layout (min_dist 0), on which clusters are found."""
    mode: Literal["auto", "exact", "fast"] = "auto"
    """`exact`: bitwise reproducible on one kind of machine; `fast`: parallel and not reproducible. `auto` is exact up
    to 20,000 documents on a CPU, which then uses one thread, and up to 5 million on a GPU."""
    seed: Seed = 42
    """Seed of all random choices."""
    preview: bool | None = None
    """Whether `preview.html` in the workspace shows the layout after each quarter of its epochs; by default for runs
    that publish a page of 200,000 documents or more. The map is the same either way."""
    backend: str = "auto"
    """`cpu`, `torch`, `cuml` or another installed backend; `auto`: the fastest measured of those that can run here."""

    @model_validator(mode="after")
    def _points_fit_the_scale(self) -> ProjectConfig:
        if self.min_dist > self.spread:
            raise ValueError(
                f"project.min_dist is {self.min_dist:g}, more than project.spread, {self.spread:g}: UMAP's curve fits "
                "no such pair; lower the one or raise the other"
            )
        return self


Level = Annotated[int, Field(ge=2, le=10_000)]


class ClusterConfig(Settings):
    """How clusters are found."""

    method: Literal["hdbscan", "plscan", "kmeans", "dbscan", "agglomerative", "column"] = "hdbscan"
    """HDBSCAN, PLSCAN (the extra `plscan`), K-means, DBSCAN, Ward's method, or an existing column of the corpus."""
    space: Literal["auto", "layout", "vectors", "map"] = "auto"
    """What is clustered: the layout of `project.cluster_dimensions`, the vectors, or the map's x and y. `auto`: the
    vectors for K-means, the layout for all other methods."""
    min_cluster_size: Annotated[int, Field(ge=2, le=1_000_000_000)] | None = None
    """Minimum documents per cluster; by default 1/500 of the corpus, between 5 and 2,000. PLSCAN chooses this or a
    larger size, by default from `min_samples` up."""
    min_samples: Annotated[int, Field(ge=1, le=1_000)] | None = None
    """How conservative HDBSCAN, PLSCAN and DBSCAN are; by default 10, or less with a small `min_cluster_size`."""
    eps: Annotated[float, Field(gt=0, le=1_000)] | None = None
    """DBSCAN's neighbourhood radius; by default the distance at which 90 % of the documents have joined a cluster."""
    cluster_selection_method: Literal["eom", "leaf"] = "eom"
    """`leaf` gives more clusters, of more even sizes."""
    cluster_selection_epsilon: Annotated[float, Field(ge=0, le=1_000)] = 0.0
    """Clusters closer than this are not split."""
    n_clusters: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """Number of clusters of K-means, by default chosen by a silhouette curve, or of Ward's method, which needs one."""
    column: str | None = None
    """The source column that holds the clusters, for `method: column`."""
    levels: Annotated[tuple[Level, ...], Field(min_length=1, max_length=6)] | None = None
    """Approximate number of clusters per layer, finest first: `[60, 20, 5]`, each at most half of the one before; or
    "about 40" for the finest layer only, with coarser layers as by default."""
    layer_factor: Annotated[float, Field(ge=2, le=50)] = 5.0
    """Approximate ratio of cluster counts between layers; the exact count is where clusters separate best."""
    max_layers: Annotated[int, Field(ge=1, le=6)] = 3
    """Maximum layers, including the finest."""
    seed: Seed = 42
    """Seed of K-means, and of the centroids that Ward's method joins."""
    backend: str = "auto"
    """`cpu`, `torch`, `cuml` or another installed backend; `auto`: the fastest measured of those that can run here."""

    @property
    def clustered(self) -> Literal["layout", "vectors", "map"] | None:
        """What the method looks at; None for a column."""
        if self.method == "column":
            return None
        if self.space == "auto":
            return "vectors" if self.method == "kmeans" else "layout"
        return self.space

    @property
    def may_adapt(self) -> bool:
        """Whether HDBSCAN's settings are the defaults, so that better ones may replace those that collapse."""
        return self.min_cluster_size is None and self.min_samples is None and self._selection_is_default

    @property
    def _selection_is_default(self) -> bool:
        return self.cluster_selection_method == "eom" and self.cluster_selection_epsilon == 0.0

    @model_validator(mode="before")
    @classmethod
    def _space_by_its_former_name(cls, values: Any) -> Any:
        # Records and files of earlier versions say `projection`, which K-means and columns took no notice of.
        if isinstance(values, Mapping) and values.get("space") == "projection":
            apart = values.get("method") in ("kmeans", "column")
            return {**values, "space": "auto" if apart else "layout"}
        return values

    @field_validator("levels", mode="before")
    @classmethod
    def _levels_in_words(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = value.removeprefix("about ").replace(",", " ").split()
        return value if value is None or isinstance(value, list | tuple) else (value,)

    @model_validator(mode="after")
    def _levels_can_be_made(self) -> ClusterConfig:
        if self.levels is None:
            return self
        for finer, coarser in pairwise(self.levels):
            if 2 * coarser > finer:
                raise ValueError(
                    f"cluster.levels: {coarser} clusters above {finer} leave some with a single child; "
                    f"each layer has at most half as many as the one below it"
                )
        if self.method == "column":
            raise ValueError("cluster.levels: the values of a column are the finest layer; use cluster.layer_factor")
        if self.method == "dbscan":
            raise ValueError("cluster.levels: DBSCAN has no number of clusters to order; use hdbscan or agglomerative")
        if self.method == "plscan":
            raise ValueError("cluster.levels: PLSCAN chooses the number of clusters; use hdbscan or agglomerative")
        if self.n_clusters is not None and self.n_clusters != self.levels[0]:
            raise ValueError("cluster.n_clusters and the first of cluster.levels differ: leave one out")
        return self

    @model_validator(mode="after")
    def _the_method_has_its_settings(self) -> ClusterConfig:
        if self.method == "agglomerative" and self.n_clusters is None and self.levels is None:
            raise ValueError(
                "cluster.method 'agglomerative' needs a number of clusters: cluster.n_clusters, or cluster.levels"
            )
        if self.eps is not None and self.method != "dbscan":
            raise ValueError("cluster.eps is a setting of cluster.method 'dbscan'")
        if self.method == "plscan":
            if not self._selection_is_default:
                raise ValueError("cluster.method 'plscan' takes leaves: cluster_selection_* are settings of 'hdbscan'")
            if self.min_samples == 1:
                raise ValueError("cluster.min_samples: PLSCAN needs 2 or more")
            if (self.min_cluster_size or self.min_samples or 2) < (self.min_samples or 2):
                raise ValueError(
                    f"cluster.min_cluster_size: PLSCAN has no clusters of fewer than min_samples={self.min_samples}"
                )
        return self

    @model_validator(mode="after")
    def _column_is_named(self) -> ClusterConfig:
        if (self.method == "column") != (self.column is not None):
            raise ValueError("cluster.method 'column' and cluster.column go together")
        if self.method == "column" and self.space != "auto":
            raise ValueError("cluster.space: the clusters of a column are its values, wherever they lie; leave it out")
        return self


class LabelConfig(Settings):
    """How clusters are labelled."""

    method: str = "keyphrases"
    """`keyphrases` (c-TF-IDF); names that people gave (`curated`); a language model over HTTP (`endpoint`) or in the
    job (`vllm`, `transformers`); or the labeler of another package."""
    max_keyphrases: Annotated[int, Field(ge=1, le=50)] = 10
    """Keyphrases per cluster."""
    exemplars: Annotated[int, Field(ge=1, le=100)] = 8
    """Exemplars per cluster."""
    max_documents_per_cluster: Annotated[int, Field(ge=10, le=1_000_000)] = 1_000
    """Documents per cluster that are read for its keyphrases."""
    ngram_range: tuple[Annotated[int, Field(ge=1, le=4)], Annotated[int, Field(ge=1, le=4)]] = (1, 3)
    """Minimum and maximum words of a keyphrase."""
    stop_words: str | tuple[str, ...] | None = None
    """Additional stop words, or a text file of them; those of the corpus's languages always apply."""
    edits: str | tuple[Mapping[str, Any], ...] | None = None
    """Manual edits, as a file written by `latentscale labels export` or as its entries; applied at every labelling."""
    seed: Seed = 42
    """Seed of the samples."""
    options: Mapping[str, Any] = {}
    """Settings specific to the labeler; keys and secrets are refused here."""

    @field_validator("ngram_range")
    @classmethod
    def _rises(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"label.ngram_range: {value[0]} words are more than {value[1]}: the shortest comes first")
        return value

    @field_validator("options")
    @classmethod
    def _no_secret(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        refuse_secrets(value)
        return value


class QualityConfig(Settings):
    """Quality metrics of a map."""

    sample: Annotated[int, Field(ge=100, le=100_000)] = 1_000
    """Documents on which trustworthiness and neighbour preservation are measured."""
    against: str | None = None
    """A source column with known classes: NMI, ARI and purity are reported against it."""
    stability: bool = False
    """Also measure the agreement of the clusters of two seeds; costs a second layout."""


class DriftConfig(Settings):
    """Thresholds of drift since the fit from which a refit is due."""

    added_share: Annotated[float, Field(gt=0, le=1_000)] = 0.2
    """Documents added since the fit, as a share of those fitted."""
    removed_share: Annotated[float, Field(gt=0, le=1_000)] = 0.2
    """Fitted documents that were removed, as a share of those fitted."""
    ood_share: Annotated[float, Field(gt=0, le=1)] = 0.15
    """Share of the added documents that are farther from the fit than 95 % of the fitted ones."""
    noise_increase: Annotated[float, Field(gt=0, le=1)] = 0.15
    """Increase of the noise share among the added documents."""
    cluster_growth: Annotated[float, Field(gt=0, le=1_000)] = 1.0
    """Documents added to a cluster, as a multiple of those it was fitted with."""


class UpdateConfig(Settings):
    """Updates of a map."""

    recall: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Target recall of the search for a new document's fitted neighbours; it is widened until it is reached."""
    max_removed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """If a larger share of the map's documents is missing from the corpus, the update fails and changes nothing."""
    drift: DriftConfig = DriftConfig()
    """Thresholds of drift."""


class PublishConfig(Settings):
    """What is published: columns, text, partitions, the page."""

    columns: tuple[str, ...] | None = None
    """Source columns in the points and on the page; by default all."""
    text: Literal["page", "points", "none"] = "page"
    """Where texts are published: `page`: on the page; `points`: also in points/; `none`: in neither."""
    partition_by: str | None = None
    """A source column, or a layer such as "layer_1", by which points/ is partitioned."""
    viewer: bool = True
    """Whether the viewer is written."""
    search: bool = True
    """Whether the page has keyword search: an index of about 100 bytes per document."""
    semantic: bool = False
    """Whether the page has semantic search of typed text, for vectors of a static model with BERT's tokenizer, such as
    the shipped one: about 130 bytes per document and 7 MB for the model's tokens."""
    noise: Literal["keep", "nearest"] = "keep"
    """Noise on the page: `keep` shows it as noise, `nearest` colours and counts it with the nearest cluster. points/
    has both columns either way."""
    title: str | None = None
    """Title of the page; by default the workspace's name."""
    images: str | None = None
    """A source column of image URLs, shown on a document's card: https URLs, or paths relative to the folder that holds
    `viewer/`."""
    image_origins: tuple[str, ...] = ()
    """Origins the page may load images from besides its own, such as https://images.example.org."""
    url: str | None = None
    """URL at which the page will be served, such as https://example.org/films/viewer/. Link previews on other sites
    then show its picture, for which most of them need an absolute URL."""

    @field_validator("url")
    @classmethod
    def _whole_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not _PAGE_URL.fullmatch(value):
            raise ValueError(
                f"{value[:80]!r} is no address of a page: write https://, the host and the folder that holds the page, "
                "as in https://example.org/films/viewer/"
            )
        return value.removesuffix("index.html").rstrip("/") + "/"

    @field_validator("image_origins")
    @classmethod
    def _plain_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # They become part of the page's content policy as they are.
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin[:80]!r} is no origin: write https://, the host in lower case and, if it is another, the "
                    "port, as in https://images.example.org"
                )
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _origins_of_images(self) -> PublishConfig:
        if self.image_origins and self.images is None:
            raise ValueError("publish.image_origins is for images, and publish.images names no column of them")
        return self
