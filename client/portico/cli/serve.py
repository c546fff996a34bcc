"""`portico serve`: serves local Python functions as tools of the daemon."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import sys
import threading
from types import ModuleType
from typing import Annotated, Any

import typer

from portico._serving import functions_in
from portico.cli.render import print_json, safe
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest
from portico.flow import Flow, Step

app = typer.Typer()


@app.command(epilog="Example: portico serve geometry:area geometry:volume --read-only")
def serve(
    context: typer.Context,
    functions: Annotated[
        list[str],
        typer.Argument(
            metavar="MODULE:FUNCTION…",
            help="Functions, searched in this folder first. A module alone means all its public functions; a "
            "flow means its functions that cannot be sent to the daemon.",
        ),
    ],
    name: Annotated[str | None, typer.Option(help="The name of this worker.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Number of concurrent calls.")] = 4,
    read_only: Annotated[bool, typer.Option("--read-only", help="The functions change nothing.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Maximum seconds per call, including its wait for a worker.")
    ] = 60.0,
    approval: Annotated[
        str,
        typer.Option(help="When a person must approve a call: always, destructive, data, refuse or never."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Serve Python functions as tools: called through the daemon, run in this process. Ctrl-C finishes running
    calls.
    """
    sys.path.insert(0, os.getcwd())
    options: dict[str, Any] = {
        "read_only": read_only,
        "destructive": not read_only,
        "timeout": timeout,
        "approval": approval,
    }
    served_functions = [
        function
        for item in functions
        for target in _targets(item)
        for function in functions_in(target, **options)
    ]
    with connected(context) as client:
        if as_json:
            print_json({"serves": [item.name for item in served_functions]})
        else:
            names = ", ".join(safe(item.name) for item in served_functions)
            typer.echo(
                f"Serving {names} until Ctrl-C. Try: portico tools show {safe(served_functions[0].name)}"
            )
        sys.stdout.flush()
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        client.serve(served_functions, name=name, concurrency=concurrency, stop=stop)


def _targets(item: str) -> list[Any]:
    """Return the functions that ``module:function`` or ``module`` refers to."""
    module_name, _, path = item.partition(":")
    try:
        module = importlib.import_module(module_name.removesuffix(".py"))
    except ImportError as error:
        raise InvalidRequest(
            f"The module '{module_name}' cannot be imported: {error}.", param="functions"
        ) from error
    if not path:
        functions = _public(module)
        if not functions:
            raise InvalidRequest(f"The module '{module_name}' has no public function.", param="functions")
        return functions
    value: Any = module
    for part in path.split("."):
        value = getattr(value, part, None)
    if not callable(value) and not isinstance(value, Flow | Step):
        raise InvalidRequest(f"'{module_name}' has no function '{path}'.", param="functions")
    return [value]


def _public(module: ModuleType) -> list[Any]:
    return [
        value
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__
    ]
