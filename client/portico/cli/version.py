"""`portico version`: prints the versions of the client and the daemon."""

from __future__ import annotations

from typing import Any

import typer

from portico import __version__
from portico.cli.render import print_fields, print_json
from portico.cli.session import AsJson, deferred, invocation
from portico.errors import PorticoError

app = typer.Typer()


@app.command(epilog="Example: portico version")
def version(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the versions of this client and of the daemon, if one responds."""
    with deferred("httpx._main"):
        from portico._transport import TIMEOUT_S, Address, Transport

    connection = invocation(context)
    try:
        transport = Transport(Address.of(connection.url, connection.key), TIMEOUT_S)
        try:
            daemon = str(transport.request("GET", "/health", dict[str, Any]).get("version", ""))
        finally:
            transport.close()
    except PorticoError:
        daemon = None
    if as_json:
        print_json({"client": __version__, "daemon": daemon})
    else:
        print_fields([("client", __version__), ("daemon", daemon or "not running")])
