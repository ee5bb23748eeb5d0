"""What labels by a language model will cost, before a run: prompts, tokens, money, minutes."""

from __future__ import annotations

from dataclasses import dataclass

from latentscale.config import JobConfig
from latentscale.labelers import labeler_class
from latentscale.labelers.model import asks_a_model
from latentscale.stages.cluster import default_min_cluster_size
from latentscale.storage.head import current_map
from latentscale.storage.objects import Store

# Documents in a cluster of HDBSCAN, in minimum sizes: few corpora have smaller clusters, many have larger ones.
_MINIMUM_SIZES = 3.0
# Values of a column, and clusters of K-means where it chooses their number itself.
_VALUES = 100
# Fewer clusters than that get no coarser layer.
_LEAST = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelQuote:
    """What the labels of a map will cost, about.

    Attributes
    ----------
    clusters, prompts, tokens, output_tokens : int
        Of all layers; some clusters are asked about twice. Tokens of requests and of answers.
    cost : float or None
        In the currency of the prices; None where the settings name none.
    minutes : float or None
        None where the machine decides.
    basis : str
        How the number of clusters is known.
    """

    clusters: int
    prompts: int
    tokens: int
    output_tokens: int
    cost: float | None
    minutes: float | None
    basis: str

    def describe(self, method: str, max_cost: float | None) -> str:
        """A sentence for a person."""
        cost = "" if self.cost is None else f", {self.cost:.2g} at the prices given"
        minutes = "" if self.minutes is None else f", {self.minutes:.2g} minutes"
        limit = "" if max_cost is None else f" (max_cost is {max_cost:g})"
        return (
            f"Labels by {method}: about {self.prompts:,} prompts for {self.clusters:,} clusters ({self.basis}), "
            f"{self.tokens:,} tokens and {self.output_tokens:,} of answers{cost}{limit}{minutes}. "
            "Answers that are there already cost nothing."
        )


def quote_labels(config: JobConfig, documents: int, store: Store | None) -> tuple[LabelQuote, str] | None:
    """Quote the labels of a job, where its labeler asks a language model.

    Parameters
    ----------
    documents : int
        Of the corpus.
    store : Store or None
        Of a workspace; the clusters of its current map are counted, where there is one.

    Returns
    -------
    quote : LabelQuote
    sentence : str
        The same for a person.

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
    """Clusters of each layer that a map of so many documents will have, rather more than fewer."""
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
