"""`portico engines`: the programs that run models, and the separate environments of the heavy ones."""

from __future__ import annotations

from typing import Annotated

import typer

from portico.cli.follow import follow_to_success
from portico.cli.nouns import print_listing, print_outcome, print_removed, print_table
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.schemas.engines import ENGINES

app = group("engines", "portico engines install vllm")

Name = Annotated[str, typer.Argument(help="The name of the engine, such as vllm.")]


@app.command("list", epilog="Example: portico engines list")
def show_all(context: typer.Context, as_json: AsJson = False) -> None:
    """List the engines. For engines with a separate environment, show whether it is installed."""
    with connected(context) as client:
        engines = client.engines.list()
    print_listing(engines, as_json, ENGINES.columns)


@app.command(epilog="Example: portico engines install vllm")
def install(
    context: typer.Context,
    name: Name,
    rebuild: Annotated[bool, typer.Option(help="Rebuild the environment even if it is intact.")] = False,
    as_json: AsJson = False,
) -> None:
    """Build the environment of an engine. An interrupted build is resumed."""
    with connected(context) as client:
        run = client.engines.install(name, rebuild=rebuild)
        follow_to_success(context, client, [run])
        ended_run = client.runs.get(run)
    print_outcome(ended_run, as_json, f"The engine '{name}' is installed.")


@app.command(epilog="Example: portico engines remove vllm --yes")
def remove(
    context: typer.Context, name: Name, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Delete the environment of an engine. The engine's models remain."""
    with connected(context) as client:
        if may_remove(f"Remove the engine '{name}'?", yes=yes, dry_run=dry_run):
            client.engines.remove(name)
    print_removed(name, f"'{name}'", dry_run, as_json)


@app.command(epilog="Example: portico engines doctor vllm")
def doctor(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Check the environment of an engine in detail. Exit code 1 if something is wrong."""
    with connected(context) as client:
        findings = client.engines.doctor(name)
    print_table(
        findings,
        as_json,
        ("CHECK", "OK", "DETAIL"),
        lambda finding: (finding.check, finding.ok, finding.detail),
    )
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
