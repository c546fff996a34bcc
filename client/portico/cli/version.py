"""`portico version`: of the client and of the daemon."""

from __future__ import annotations

import typer

from portico import __version__
from portico.cli.render import print_fields, print_json
from portico.cli.session import AsJson, connected
from portico.errors import PorticoError

app = typer.Typer()


@app.command(epilog="Example: portico version")
def version(context: typer.Context, as_json: AsJson = False) -> None:
    """Print the versions of this client and of the daemon, if one answers."""
    try:
        with connected(context) as client:
            daemon = str(client.health().get("version", ""))
    except PorticoError:
        daemon = None
    if as_json:
        print_json({"client": __version__, "daemon": daemon})
    else:
        print_fields([("client", __version__), ("daemon", daemon or "does not run")])
