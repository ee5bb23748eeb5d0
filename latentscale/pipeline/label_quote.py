"""Cost estimate of labels by a language model before a run: prompts, tokens, price and minutes."""

from __future__ import annotations

from dataclasses import dataclass

from latentscale.config import JobConfig
from latentscale.labelers import labeler_class
from latentscale.labelers.model import asks_a_model
from latentscale.stages.cluster import default_min_cluster_size
from latentscale.storage.head import current_map
from latentscale.storage.objects import Store

# Mean size of an HDBSCAN cluster, as a multiple of min_cluster_size; few corpora have smaller clusters.
_MINIMUM_SIZES = 3.0
# Assumed number of values of a column, and of K-means clusters if the number is chosen automatically.
_VALUES = 100
# A layer with fewer clusters than this gets no coarser layer.
_LEAST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelQuote:
    """Estimated cost of the labels of a map.

    Attributes
    ----------
    clusters, prompts, tokens, output_tokens : int
        Totals over all layers; some clusters take two prompts. ``tokens`` are those of the requests,
        ``output_tokens`` those of the answers.
    cost : float or None
        In the currency of the configured prices; None without prices.
    minutes : float or None
        None if the time depends on the machine.
    basis : str
        Where the number of clusters comes from.
    """

    clusters: int
    prompts: int
    tokens: int
    output_tokens: int
    cost: float | None
    minutes: float | None
    basis: str

    def describe(self, method: str, max_cost: float | None) -> str:
        """The quote as a sentence for display."""
        cost = "" if self.cost is None else f", {self.cost:.2g} at the prices given"
        minutes = "" if self.minutes is None else f", {self.minutes:.2g} minutes"
        limit = "" if max_cost is None else f" (max_cost is {max_cost:g})"
        return (
            f"Labels by {method}: about {self.prompts:,} prompts for {self.clusters:,} clusters ({self.basis}), "
            f"{self.tokens:,} tokens and {self.output_tokens:,} of answers{cost}{limit}{minutes}. "
            "Answers that are there already cost nothing."
        )


def quote_labels(config: JobConfig, documents: int, store: Store | None) -> tuple[LabelQuote, str] | None:
    """Estimate the cost of the labels of a job; None if its labeler uses no language model.

    Parameters
    ----------
    documents : int
        Number of documents of the corpus.
    store : Store or None
        The workspace; the cluster counts of its current map are used, if there is one.

    Returns
    -------
    quote : LabelQuote
    sentence : str
        The quote as a sentence for display.

    Raises
    ------
    ConfigError
        If a setting of the labeler is wrong.
    """
    kind = labeler_class(config.label.method)
    if not asks_a_model(kind):
        return None
    current = current_map(store) if store is not None else None
    if config.cluster.levels is not None:
        layers, basis = _estimated_layers(config, documents), "as cluster.levels asks"
    elif current is not None and current.counts.get("layers"):
        layers, basis = [int(count) for count in current.counts["layers"]], "as the current map has"
        if config.cluster.method == "column":
            layers[0] = 0
    else:
        layers, basis = _estimated_layers(config, documents), "a guess, for want of a map"
    found = kind.quote(config.label, layers)
    quote = LabelQuote(
        clusters=found.clusters,
        prompts=found.prompts,
        tokens=found.usage.tokens,
        output_tokens=found.usage.output,
        cost=None if found.cost is None else round(found.cost, 6),
        minutes=None if found.minutes is None else round(found.minutes, 3),
        basis=basis,
    )
    return quote, quote.describe(config.label.method, kind.terms(config.label).max_cost)


def _estimated_layers(config: JobConfig, documents: int) -> list[int]:
    """Estimated number of clusters in each layer of a map of ``documents`` documents, rather too high than too low."""
    cluster = config.cluster
    levels = list(cluster.levels or ())
    if len(levels) > 1:
        return levels
    if levels:
        finest = levels[0]
    elif cluster.method in ("hdbscan", "plscan", "dbscan"):
        size = cluster.min_cluster_size or default_min_cluster_size(documents)
        finest = max(1, round(documents / (_MINIMUM_SIZES * size)))
    else:
        finest = cluster.n_clusters or _VALUES
    layers = [finest]
    while len(layers) < cluster.max_layers and layers[-1] >= _LEAST:
        layers.append(max(1, round(layers[-1] / cluster.layer_factor)))
    # The values of a column are the names of its clusters.
    return [0, *layers[1:]] if cluster.method == "column" else layers
