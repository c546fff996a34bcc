"""`portico version`: prints the versions of the client and the daemon, and the schema of the daemon's database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from portico import _build
from portico.cli.render import print_fields, print_json
from portico.cli.session import AsJson, deferred, invocation
from portico.errors import PorticoError

if TYPE_CHECKING:
    from portico._transport import Transport

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
            build, schema = _details(transport)
            daemon = build or daemon
        finally:
            transport.close()
    except PorticoError:
        daemon, schema = None, None
    if as_json:
        print_json({"client": _build.version(), "daemon": daemon, "schema": schema})
    else:
        fields = [("client", _build.version()), ("daemon", daemon or "not running")]
        print_fields([*fields, ("schema", schema)] if schema else fields)


def _details(transport: Transport) -> tuple[str | None, str | None]:
    """Return the build of the daemon and its schema, or ``None`` if the caller may not see them or the daemon is
    older.
    """
    try:
        overview = transport.request("GET", "/api/status", dict[str, Any])
    except PorticoError:
        return None, None
    return overview.get("build") or None, overview.get("schema") or None
