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
    """How the corpus is cut into shards, and which rows are rejected."""

    shard_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 16_384
    """Rows in a shard at most: the unit of I/O and of resume."""
    shard_bytes: Annotated[int, Field(ge=1 << 16, le=1 << 30)] = 64 << 20
    """Bytes of text and columns in a shard at most (a shard ends at whichever bound comes first)."""
    max_text_characters: Annotated[int, Field(ge=1, le=100_000_000)] = 1_000_000
    """A longer text goes to the rejects."""
    max_columns: Annotated[int, Field(ge=1, le=1_000_000)] = 2_000
    """Columns of a table at most, beside the text; one with more is refused."""
    max_reject_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """A larger share of rejects ends the run before anything is embedded."""
    fingerprint: Literal["auto", "stat", "content"] = "auto"
    """How an input file is recognised: by path, size and modification time (or ETag), or by path and bytes. `auto` goes
    by bytes for up to 10,000 local files of 1 GiB in all, and in an existing workspace as its runs did before."""


class EmbedConfig(Settings):
    """How documents become vectors."""

    model: str = "static"
    """`static` (ships with LatentScale), `column` (vectors of the corpus), a folder or hub id of a model
    (`organisation/name`; `latentscale models list`), or the name of an embedder that another package adds."""
    kind: str = "auto"
    """What computes the vectors: `static`, `transformers` and the others that `latentscale doctor` lists, or `auto`:
    the first that knows the model."""
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Tokens of a text that are used; the rest is ignored."""
    dtype: Literal["float16", "float32"] = "float16"
    """Data type of the stored vectors."""
    max_unembeddable_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A larger share of documents without a vector ends the run: they would be on no map."""
    duplicates: Literal["shard", "corpus"] = "shard"
    """Where a text is embedded once: in each `shard`, or in the whole `corpus`, for which all texts are read and hashed
    first. The vectors are the same."""
    options: Mapping[str, Any] = {}
    """Further settings of the embedder, for one that has any of its own; keys and secrets are refused here."""

    @field_validator("options")
    @classmethod
    def _no_secret(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        refuse_secrets(value)
        return value


class NeighborsConfig(Settings):
    """The nearest-neighbour graph that all later stages share."""

    k: Annotated[int, Field(ge=2, le=256)] | None = None
    """Neighbours kept; by default what the other stages ask for."""
    method: str = "auto"
    """`exact`, `pynndescent` or an approximate search of another backend; `auto` is exact for small sets."""
    recall: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The search is widened until its recall@15, measured on a sample, reaches this."""
    backend: str = "auto"
    """What computes it: `cpu`, another backend that is installed, or `auto`: one that can run where the stage runs."""


class ProjectConfig(Settings):
    """The layout: UMAP in two dimensions for the map, and in a few more for clustering."""

    n_neighbors: Annotated[int, Field(ge=2, le=200)] = 15
    """Number of neighbours of UMAP; more preserve global structure, fewer local detail."""
    min_dist: Annotated[float, Field(ge=0, le=10)] = 0.1
    """How tightly UMAP packs the map; at most `spread`."""
    spread: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    """The scale of the embedded points."""
    n_epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Steps of the optimisation; by default 500 for a map of up to 10,000 documents, else 200."""
    init: Literal["auto", "pca", "earlier"] = "auto"
    """Where the layouts start: from principal components; or `earlier`, from those of the current map, which the new
    one then resembles at less cost: documents start where they were, new ones at the mean of their neighbours that
    were. The optimisation then has a tenth of the learning rate and, by default, 100 steps. `auto`: `earlier` for the
    refit of a map whose labels were edited, of which more edits then hold, and for stages of such a refit that are run
    again; else `pca`."""
    negative_sample_rate: Annotated[int, Field(ge=1, le=100)] = 5
    """Negative samples for each positive one."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1.0
    """UMAP's initial learning rate."""
    density_weight: Annotated[float, Field(ge=0, le=100)] = 0.0
    """How much the map keeps of how densely documents lie in the embedding (densMAP): UMAP alone, at 0, draws dense and
    sparse topics alike. About 0.2 keeps most of it at little cost for neighbourhoods; umap-learn's `dens_lambda`."""
    map_dimensions: Annotated[int, Field(ge=2, le=3)] = 2
    """`3`: documents get a height, `z`, above the flat map, whose `x` and `y` it leaves as they are; the page can turn
    the map in space."""
    cluster_dimensions: Annotated[int, Field(ge=1, le=50)] = 5
    """Dimensions of the second layout, on which clusters are found (with min_dist 0); 1 is a line."""
    mode: Literal["auto", "exact", "fast"] = "auto"
    """`exact`: repeatable to the bit on one kind of machine; `fast`: parallel, each run another map. `auto` is exact
    for small sets: on processors, which then use one thread, up to 20,000 documents."""
    seed: Seed = 42
    """Seed of all random choices."""
    preview: bool | None = None
    """Whether the map is shown while it is being laid out: `preview.html` in the workspace, after each quarter of the
    steps; by default where a run publishes the page of 200,000 documents or more. The map is the same with it."""
    backend: str = "auto"
    """What computes it: `cpu`, another backend that is installed, or `auto`: one that can run where the stage runs."""

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
    vectors for K-means, the layout for the other methods."""
    min_cluster_size: Annotated[int, Field(ge=2, le=1_000_000_000)] | None = None
    """Documents in a cluster at least; by default a five-hundredth of the corpus, between 5 and 2,000. PLSCAN chooses
    this or a larger one, by default from `min_samples` on."""
    min_samples: Annotated[int, Field(ge=1, le=1_000)] | None = None
    """How conservative HDBSCAN, PLSCAN and DBSCAN are; by default 10, or less for small `min_cluster_size`."""
    eps: Annotated[float, Field(gt=0, le=1_000)] | None = None
    """Distance within which documents of a cluster of DBSCAN have their neighbours; by default that at which nine in
    ten documents have joined another."""
    cluster_selection_method: Literal["eom", "leaf"] = "eom"
    """`leaf` gives more and more even clusters."""
    cluster_selection_epsilon: Annotated[float, Field(ge=0, le=1_000)] = 0.0
    """Clusters closer than this are not split."""
    n_clusters: Annotated[int, Field(ge=2, le=10_000)] | None = None
    """Clusters of K-means, by default chosen by a silhouette curve; or of Ward's method, which needs a number."""
    column: str | None = None
    """The source column that holds the clusters, for `method: column`."""
    levels: Annotated[tuple[Level, ...], Field(min_length=1, max_length=6)] | None = None
    """Clusters of each layer, about, the finest first: `[60, 20, 5]`, each at most half of the one before; or
    "about 40": so many finest ones, and coarser layers as without it."""
    layer_factor: Annotated[float, Field(ge=2, le=50)] = 5.0
    """How many times fewer clusters each coarser layer has, about: where the clusters are most clearly apart."""
    max_layers: Annotated[int, Field(ge=1, le=6)] = 3
    """Layers in all, the finest included."""
    seed: Seed = 42
    """Seed of K-means, and of the centroids that Ward's method joins."""
    backend: str = "auto"
    """What computes it: `cpu`, another backend that is installed, or `auto`: one that can run where the stage runs."""

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
    """How clusters get their names."""

    method: str = "keyphrases"
    """`keyphrases` (c-TF-IDF); names that people gave (`curated`); a language model over HTTP (`endpoint`) or in the
    job (`vllm`, `transformers`); or the labeler of another package."""
    max_keyphrases: Annotated[int, Field(ge=1, le=50)] = 10
    """Keyphrases kept for a cluster."""
    exemplars: Annotated[int, Field(ge=1, le=100)] = 8
    """Exemplars chosen for a cluster."""
    max_documents_per_cluster: Annotated[int, Field(ge=10, le=1_000_000)] = 1_000
    """Documents of a cluster that are read for its keyphrases."""
    ngram_range: tuple[Annotated[int, Field(ge=1, le=4)], Annotated[int, Field(ge=1, le=4)]] = (1, 3)
    """Words of the shortest and of the longest keyphrase."""
    stop_words: str | tuple[str, ...] | None = None
    """A text file with words that are in no keyphrase, or these words, beside those of the corpus's languages."""
    edits: str | tuple[Mapping[str, Any], ...] | None = None
    """A file of edits by hand, as `latentscale labels export` writes it, or its entries: applied at every labelling."""
    seed: Seed = 42
    """Seed of the samples."""
    options: Mapping[str, Any] = {}
    """Further settings of the labeler, for one that has any of its own; keys and secrets are refused here."""

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
    """What is measured of a map."""

    sample: Annotated[int, Field(ge=100, le=100_000)] = 1_000
    """Documents on which trustworthiness and neighbour preservation are measured."""
    against: str | None = None
    """A source column with known classes: NMI, ARI and purity are reported against it."""
    stability: bool = False
    """Also measure the agreement of the clusters of two seeds; costs a second layout."""


class DriftConfig(Settings):
    """When the documents that came since a fit are so different that a new one is due."""

    added_share: Annotated[float, Field(gt=0, le=1_000)] = 0.2
    """Documents that were added since the fit, as a share of those fitted."""
    removed_share: Annotated[float, Field(gt=0, le=1_000)] = 0.2
    """Removed documents of the fit, as a share of those fitted."""
    ood_share: Annotated[float, Field(gt=0, le=1)] = 0.15
    """Share of the added documents that are farther from the fit than 95 in 100 of its own."""
    noise_increase: Annotated[float, Field(gt=0, le=1)] = 0.15
    """By how much the share of noise may be higher among the added documents."""
    cluster_growth: Annotated[float, Field(gt=0, le=1_000)] = 1.0
    """How many documents a cluster may gain for each that it was fitted with."""


class UpdateConfig(Settings):
    """How a map grows."""

    recall: Annotated[float, Field(gt=0, le=1)] = 0.95
    """The search for the fitted neighbours of a new document is widened until its recall reaches this."""
    max_removed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """If a larger share of the map's documents is missing from the corpus, the update fails and changes nothing."""
    drift: DriftConfig = DriftConfig()
    """Thresholds of drift from which a refit is due."""


class PublishConfig(Settings):
    """What is published: columns, text, partitions, the page."""

    columns: tuple[str, ...] | None = None
    """Source columns in the points and on the page; by default all."""
    text: Literal["page", "points", "none"] = "page"
    """`page`: the text is on the page, `points`: also in points/, `none`: in neither."""
    partition_by: str | None = None
    """A source column, or a layer such as "layer_1", by which points/ is partitioned."""
    viewer: bool = True
    """Whether the viewer is written."""
    search: bool = True
    """Whether the page finds documents by their words: an index of them, about 100 bytes a document."""
    semantic: bool = False
    """Whether the page finds documents by the meaning of what is typed, for vectors of a static model with BERT's
    tokenizer, as the shipped one: about 130 bytes a document and 7 MB for the model's tokens."""
    noise: Literal["keep", "nearest"] = "keep"
    """Documents in no cluster on the page: `keep` shows them as such, `nearest` colours and counts them with their
    nearest cluster. points/ has both columns either way."""
    title: str | None = None
    """Title of the page; by default the workspace's name."""
    images: str | None = None
    """A source column with addresses of images, which the page shows on a document's card: https addresses, or ones
    relative to the folder that holds `viewer/`."""
    image_origins: tuple[str, ...] = ()
    """Where the page may load images from, such as https://images.example.org; beside its own origin, nowhere else."""
    url: str | None = None
    """Where the page will be found, such as https://example.org/films/viewer/: with it, sites on which its address is
    shared show its picture; most of them need the whole address of one."""

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
