"""Commands that prepare: `init`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentscale.cli.program import program
from latentscale.file_names import argument


def register(app: typer.Typer) -> None:
    """Add the commands."""
    panel = "Prepare"
    app.command(rich_help_panel=panel)(init)
    app.command(rich_help_panel=panel)(doctor)


def init(
    to: Annotated[Path, typer.Argument(help="The job file to write (job.yaml), or a folder for it.")] = Path(),
    force: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
) -> None:
    """Write a commented job.yaml, and its JSON Schema for validation in editors."""
    import latentscale

    job, schema = latentscale.init(to, force=force)
    print(f"{job} written")
    print(f"{schema} written")
    print(f"Edit {job.name}, then:  {program()} run {argument(job)}")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    selftest: Annotated[
        bool, typer.Option("--selftest", help="Also compare each backend with the CPU backend, on the demo corpus.")
    ] = False,
) -> None:
    """Report this machine's resources and the backend chosen for each stage, with the reason.

    With --selftest, the exit code is 4 if the results of a backend differ from those of the CPU backend.
    """
    import json

    import latentscale
    from latentscale.errors import EXIT_ENVIRONMENT

    facts = latentscale.doctor()
    tested = latentscale.selftest() if selftest else ()
    if as_json:
        values = facts.as_dict()
        if selftest:
            values["selftest"] = [one.as_json() for one in tested]
        print(json.dumps(values, indent=1))
    else:
        print(facts)
        if selftest:
            print("\nself-test", *(str(one) for one in tested or ("no backend other than the CPU one",)), sep="\n")
    if any(one.comparison is not None and not one.holds for one in tested):
        raise typer.Exit(EXIT_ENVIRONMENT)
