"""Commands that look at maps: `view`, `clusters`, `search`, `sample`, `duplicates`, `quality`, `export`, `compare`…"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from latentscale.cli.work import AsJson, Storage, WorkspaceArgument, existing_workspace
from latentscale.file_names import argument

if TYPE_CHECKING:
    from latentscale.workspace import WorkspaceRecord

FrameFormat = Annotated[str, typer.Option("--format", help="table, csv, jsonl or json.")]
MapOption = Annotated[str | None, typer.Option("--map", "-m", help="Id or name of a map; by default the current one.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Look at a map"
    app.command(rich_help_panel=panel)(view)
    app.command(rich_help_panel=panel)(clusters)
    app.command(rich_help_panel=panel)(search)
    app.command(rich_help_panel=panel)(sample)
    app.command(rich_help_panel=panel)(duplicates)
    app.command(rich_help_panel=panel)(quality)
    app.command(rich_help_panel=panel)(export)
    app.command(rich_help_panel=panel)(compare)
    app.command(rich_help_panel=panel)(gallery)


def view(
    workspace: WorkspaceArgument,
    port: Annotated[int, typer.Option(help="Port on the loopback interface; 0 picks a free one.")] = 8765,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    storage: Storage = None,
) -> None:
    """Serve the page on this machine until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        existing_workspace(workspace, storage).view(port=port, open_browser=browser)


def clusters(
    workspace: WorkspaceArgument,
    layer: Annotated[
        int | None, typer.Option("--layer", min=0, help="Only this layer; 0 is the finest. By default all.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", help="Sort by size, label or cluster.", show_default="size")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", help="tree, table, csv, jsonl or json; with --layer or --sort table.", show_default="tree"
        ),
    ] = None,
    map: MapOption = None,
    storage: Storage = None,
) -> None:
    """Show the clusters of a map as a tree with sizes, or as a table of layer, id, size, label and keyphrases."""
    from latentscale.cli.report import print_frame
    from latentscale.errors import RequestError

    order = {"size": ("size", True), "label": ("label", False), "cluster": ("cluster", False)}
    sorting = sort or "size"
    if sorting not in order:
        raise RequestError(f"--sort {sorting!r} is not one of {', '.join(order)}")
    column, descending = order[sorting]
    chosen = existing_workspace(workspace, storage).the_map(map)
    one_layer = layer is not None or sort is not None
    if format == "tree" and one_layer:
        raise RequestError("a tree has all layers, the largest first", hint="Leave out --layer and --sort.")
    if format == "tree" or (format is None and not one_layer):
        for line in chosen.tree():
            print(line)
        return
    shape = format or "table"
    labels = chosen.labels()
    layers = labels["layer"].unique().sort().to_list()
    if layer is not None:
        if layer not in layers:
            raise RequestError(
                f"{chosen.id} has no layer {layer}", hint=f"Its layers: {', '.join(str(n) for n in layers)}."
            )
        labels = labels.filter(labels["layer"] == layer)
    described = "description" in labels.columns and labels["description"].null_count() < len(labels)
    shown = ["label", "description", "keyphrases"] if described else ["label", "keyphrases"]
    frame = labels.select("layer", "cluster", "size", "nearest_size", "parent", *shown)
    frame = frame.sort(["layer", column, "cluster"], descending=[False, descending, False])
    if shape == "table":
        frame = frame.drop("nearest_size", "parent")
    print_frame(frame, shape)


def search(
    workspace: WorkspaceArgument,
    query: Annotated[str, typer.Argument(help="Query text.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Maximum number of documents.")] = 10,
    cluster: Annotated[int | None, typer.Option("--cluster", "-c", help="Only this cluster; -1 is noise.")] = None,
    where: Annotated[
        str | None, typer.Option("--where", help='SQL condition on the columns of the points: "year >= 2020".')
    ] = None,
    threshold: Annotated[float | None, typer.Option("--threshold", help="Minimum cosine similarity.")] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", help="Further columns to show: title,year. By default id and title.")
    ] = None,
    format: FrameFormat = "table",
    map: MapOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As --format jsonl, with all columns.")] = False,
    storage: Storage = None,
) -> None:
    """Find the documents most similar to a text, with their clusters."""
    from latentscale.cli.report import print_frame

    opened = existing_workspace(workspace, storage)
    found = opened.the_map(map).find(query, k=k, cluster=cluster, where=where, threshold=threshold)
    if as_json:
        print_frame(found, "jsonl")
        return
    record = opened.record
    more = _columns(columns, record, found.columns)
    shown = ["score", "row_id", "cluster", "label", *more, record.text_column]
    print_frame(found.select(list(dict.fromkeys(shown))), format)


def _columns(named: str | None, record: WorkspaceRecord, known: list[str]) -> list[str]:
    from latentscale.errors import RequestError

    if named is None:
        usual = [record.id_column, "title"]
        return [name for name in usual if name is not None and name in known and name != record.text_column]
    names = [name.strip() for name in named.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise RequestError(f"--columns: the points have no column {name!r}", hint=f"They have: {', '.join(known)}.")
    return names


def sample(
    workspace: WorkspaceArgument,
    n: Annotated[int, typer.Option("-n", min=1, help="Sample size.")] = 10,
    cluster: Annotated[int | None, typer.Option("--cluster", "-c", help="Only this cluster; -1 is noise.")] = None,
    where: Annotated[
        str | None, typer.Option("--where", help='SQL condition on the columns of the points: "probability > 0.9".')
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            help="density: favour sparse regions; cluster: the same number from each cluster. By default uniform.",
        ),
    ] = None,
    layer: Annotated[int, typer.Option("--layer", min=0, help="With --by cluster: the layer; 0 is the finest.")] = 0,
    power: Annotated[
        float, typer.Option("--power", min=0, help="With --by density: larger values favour sparse regions more.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed draws the same documents.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the sample with all columns to a file: .parquet, .csv, .jsonl or .xlsx."),
    ] = None,
    map: MapOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines with all columns.")] = False,
    storage: Storage = None,
) -> None:
    """Draw a random sample of documents with their texts: uniform, by density, or stratified by cluster."""
    from latentscale.cli.report import print_frame
    from latentscale.workspace import check_file, write_frames

    if out is not None:
        check_file(out)
    opened = existing_workspace(workspace, storage)
    if out is not None:
        opened.check_outside_corpus(out)
    frame = opened.sample(
        n, map=map, seed=seed, cluster=cluster, where=where, by=cast("Any", by), layer=layer, power=power
    )
    if out is not None:
        write_frames([frame], out, rows=len(frame))
        print(f"{out} written ({len(frame):,} documents)")
        return
    if as_json:
        print_frame(frame, "jsonl")
        return
    text = opened.record.text_column
    print_frame(frame.select(list(dict.fromkeys(["row_id", "cluster", "label", text]))), "table")


def duplicates(
    workspace: WorkspaceArgument,
    threshold: Annotated[
        float,
        typer.Option("--threshold", help="Minimum cosine similarity to the representative of the group, 0.5 to 1."),
    ] = 0.95,
    exact: Annotated[bool, typer.Option("--exact", help="Only documents with identical text.")] = False,
    prefer: Annotated[
        str,
        typer.Option("--prefer", help="Representative of a group: central (the most copies), longest (text) or first."),
    ] = "central",
    groups: Annotated[int, typer.Option("-n", min=0, help="Number of groups in the table, largest first.")] = 10,
    format: Annotated[
        str,
        typer.Option("--format", help="table: the largest groups; csv, jsonl or json: the documents of all groups."),
    ] = "table",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write all groups to a file: .parquet, .csv, .jsonl or .xlsx.")
    ] = None,
    drop: Annotated[
        Path | None,
        typer.Option("--drop", help="Write the row ids of the copies to a .csv or .parquet file, for run --exclude."),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", help="Write the row ids of all other documents to such a file, for run --only."),
    ] = None,
    map: MapOption = None,
    storage: Storage = None,
) -> None:
    """Find exact and near duplicates, from the stored neighbour graph."""
    import polars as pl

    from latentscale.cli.report import print_frame
    from latentscale.errors import RequestError
    from latentscale.workspace import check_file, write_frames

    if out is not None:
        check_file(out)
    for ids_file in (drop, keep):
        if ids_file is not None:
            # What run --exclude and --only read.
            check_file(ids_file, (".csv", ".parquet"))
    named = [os.path.normpath(file.absolute()) for file in (out, drop, keep) if file is not None]
    if len(set(named)) < len(named):
        raise RequestError("--out, --drop and --keep name one file for two things", hint="Name another for each.")
    opened = existing_workspace(workspace, storage)
    for file in (out, drop, keep):
        if file is not None:
            opened.check_outside_corpus(file)
    chosen = opened.the_map(map)
    found = chosen.duplicates(threshold, exact=exact, prefer=cast("Any", prefer))
    if out is None:
        print_frame(found.summary().head(groups) if format == "table" else found.documents, format)
    else:
        write_frames([found.documents], out, rows=len(found.documents))
    for file, ids in ((drop, found.dropped), (keep, found.kept)):
        if file is not None:
            write_frames([pl.DataFrame({"row_id": ids})], file, rows=len(ids))
    # For people: programs read the frame.
    typer.echo(f"{found.sentence()} (of {chosen.id})", err=True)
    if found.recall is not None and found.recall < 1:
        typer.echo(
            f"the neighbour graph has {found.recall:.1%} of the true neighbours: a few copies may be missing", err=True
        )


def quality(
    workspace: WorkspaceArgument, map: MapOption = None, storage: Storage = None, as_json: AsJson = False
) -> None:
    """Show quality figures of the layout and the clusters of a map."""
    import json

    from latentscale.cli.report import print_quality

    facts = existing_workspace(workspace, storage).the_map(map).quality
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    print_quality(facts)


def export(
    workspace: WorkspaceArgument,
    to: Annotated[
        Path, typer.Argument(help="A file: .parquet, .csv, .jsonl or .xlsx; for the page a folder or an .html file.")
    ],
    map: MapOption = None,
    what: Annotated[
        str | None,
        typer.Option(
            "--what",
            help="points, text, clusters, labels or page; by default from the file name (labels.csv), else points.",
        ),
    ] = None,
    text: Annotated[bool, typer.Option(help="Add the text to the points.")] = False,
    updates: Annotated[bool, typer.Option(help="Add the update in which each point was added.")] = False,
    storage: Storage = None,
) -> None:
    """Export the points, texts or clusters of a map to a file, or its page to a folder or a single HTML file."""
    chosen = existing_workspace(workspace, storage).the_map(map)
    written = chosen.export(to, what=cast("Any", what), text=text, updates=updates)
    print(f"{written} written ({_written(to, what)} of {chosen.id})")


def compare(
    workspace: WorkspaceArgument,
    first: Annotated[str, typer.Argument(help="Id or name of a map.")],
    second: Annotated[str, typer.Argument(help="Id or name of another map, which is aligned to the first.")],
    to: Annotated[Path, typer.Argument(help="A new folder.")],
    storage: Storage = None,
    as_json: AsJson = False,
) -> None:
    """Write a page of two linked maps side by side, with the documents that moved most and the changes of clusters."""
    import json
    from collections import Counter

    facts = existing_workspace(workspace, storage).compare(first, second, to)
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    print(f"{facts['documents']:,} documents on both maps; {facts['only'][0]:,} and {facts['only'][1]:,} on one alone")
    print(f"moved by {facts['residual']:.0%} of the map's size (median); {facts['kept']:.0%} of their neighbours kept")
    changes: Counter[str] = Counter()
    for change in facts["changes"]:
        changes[change["change"]] += len(change["before"])
    print("clusters: " + ", ".join(f"{n} {change}" for change, n in changes.most_common()))
    print(f"{to} written; look at it:  python -m http.server --bind 127.0.0.1 --directory {argument(to)}")


def gallery(
    workspace: WorkspaceArgument,
    to: Annotated[Path, typer.Argument(help="A new folder.")],
    map: Annotated[
        list[str] | None, typer.Option("--map", "-m", help="Id or name of a map; repeatable; by default all.")
    ] = None,
    storage: Storage = None,
) -> None:
    """Write an overview page of several maps, with thumbnails, names, dates, figures and a copy of each map's page."""
    shown = existing_workspace(workspace, storage).gallery(to, map or ())
    print(f"{to} written ({len(shown)} {'map' if len(shown) == 1 else 'maps'})")
    print(f"Look at it:  python -m http.server --bind 127.0.0.1 --directory {argument(to)}")


def _written(to: Path, what: str | None) -> str:
    from latentscale.workspace import what_of

    return what_of(to, what)
