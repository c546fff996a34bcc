"""`portico adapters`: small sets of weights that extend a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portico.cli.nouns import fields_of, print_item, print_listing, print_removed
from portico.cli.progress import Spinner, follow_result
from portico.cli.render import amount, moment, print_json
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import InvalidRequest
from portico.schemas.adapters import ADAPTERS, Adapter

app = group("adapters", "portico adapters add default ./my-adapter --name polite")

Name = Annotated[str, typer.Argument(help="The name of the adapter.")]


@app.command("list", epilog="Example: portico adapters list default")
def show_all(
    context: typer.Context,
    base: Annotated[str | None, typer.Argument(help="Only adapters of this model.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the adapters and their models."""
    with connected(context) as client:
        adapters = client.adapters.list(base)
    print_listing(
        adapters, as_json, ADAPTERS.columns, "No adapters yet: portico adapters add MODEL PATH --name NAME"
    )


@app.command(epilog="Example: portico adapters show polite")
def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show an adapter."""
    with connected(context) as client:
        _print(client.adapters.get(name), as_json)


@app.command(epilog="Example: portico adapters add default ./my-adapter --name polite")
def add(
    context: typer.Context,
    base: Annotated[str, typer.Argument(help="The model that the adapter was trained on.")],
    path: Annotated[
        Path, typer.Argument(help="The folder written by PEFT, or a .gguf file, on the daemon's machine.")
    ],
    name: Annotated[str, typer.Option(help="The model name for the adapter.")],
    scale: Annotated[
        float,
        typer.Option(help="Strength of the adapter: 0 is the base model alone, 1 the trained strength."),
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Serve a model with an adapter under a separate name. The daemon copies and tests the adapter first."""
    with connected(context) as client, Spinner(f"Trying {name} with {base}"):
        adapter = client.adapters.add(base, path.expanduser().absolute(), name, scale=scale)
    _print(adapter, as_json)


@app.command(epilog="Example: portico adapters scale polite 0.5")
def scale(
    context: typer.Context,
    name: Name,
    scale: Annotated[float, typer.Argument(help="0 is the base model alone, 1 the trained strength.")],
    as_json: AsJson = False,
) -> None:
    """Change the strength of an adapter."""
    with connected(context) as client:
        _print(client.adapters.scale(name, scale), as_json)


@app.command(epilog="Example: portico adapters export polite ./polite.gguf --merged --gguf q4_k_m")
def export(
    context: typer.Context,
    name: Name,
    path: Annotated[Path, typer.Argument(help="A new file or folder, on the daemon's machine.")],
    merged: Annotated[bool, typer.Option("--merged", help="Merge the adapter into its model.")] = False,
    gguf: Annotated[
        str | None, typer.Option(help="Write a GGUF file, with weights as f16, q8_0, q4_k_m and so on.")
    ] = None,
    safetensors: Annotated[
        bool, typer.Option("--safetensors", help="Write safetensors (the default).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write an adapter to a file or folder, alone or merged into its model."""
    if gguf and safetensors:
        raise InvalidRequest("Use only one of --gguf and --safetensors.", param="gguf")
    with connected(context) as client:
        run = client.adapters.export(
            name,
            path.expanduser().absolute(),
            merged=merged,
            format="gguf" if gguf else "safetensors",
            type=gguf or "f16",
        )
        export_result = follow_result(client, run, f"Exporting {name}")
    if as_json:
        print_json(export_result)
    else:
        typer.echo(f"{export_result['path']}: {amount(export_result['bytes'])}")


@app.command(epilog="Example: portico adapters remove polite --yes")
def remove(
    context: typer.Context, name: Name, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Remove an adapter, including the daemon's copy."""
    with connected(context) as client:
        adapter = client.adapters.get(name)
        if may_remove(f"Remove the adapter '{adapter.name}'?", yes=yes, dry_run=dry_run):
            client.adapters.remove(adapter.name)
    print_removed(adapter.name, f"'{adapter.name}'", dry_run, as_json)


def _print(adapter: Adapter, as_json: bool) -> None:
    print_item(
        adapter,
        as_json,
        *fields_of(adapter, "name", "base", "state", "engine", "kind"),
        ("scale", f"{adapter.scale:g}"),
        ("rank", adapter.rank),
        ("alpha", None if adapter.alpha is None else f"{adapter.alpha:g}"),
        ("layers", adapter.targets),
        ("trained on", adapter.trained_on),
        ("size", amount(adapter.bytes)),
        ("from", "the configuration file" if adapter.configured else None),
        ("added", moment(adapter.created_at)),
    )
