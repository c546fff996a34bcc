"""`portico logout`: end what `portico login` began."""

from __future__ import annotations

import typer

from portico.cli.render import one_line, print_json
from portico.cli.session import AsJson, deferred, invocation
from portico.errors import PorticoError

app = typer.Typer()


@app.command(epilog="Example: portico logout")
def logout(context: typer.Context, as_json: AsJson = False) -> None:
    """Sign out at a daemon: remove the tokens here, and have the issuer end them, where it can.

    An issuer that is away does not keep you signed in here.
    """
    import asyncio

    with deferred("httpx._main"):
        from portico import _issuer, _sign_ins
        from portico._transport import Address

    place = _sign_ins.place_of(Address.of(invocation(context).address(), "").url)
    with _sign_ins.locked():
        found = _sign_ins.kept().get(place)
        if found is not None:
            _sign_ins.keep(place, None)
    ended, problem = False, ""
    if found is not None:
        given = (found.issuer, found.client_id, found.refresh_token)
        try:
            ended = asyncio.run(_issuer.revoked(*given))
        except PorticoError as error:
            problem = error.message
    if as_json:
        print_json({"url": place, "signed_out": found is not None, "ended_at_issuer": ended})
    elif found is None:
        typer.echo(f"Nobody was signed in at {one_line(place)}.")
    else:
        where = " and at the issuer" if ended else ""
        typer.echo(f"Signed out at {one_line(place)}{where}.")
    if problem:
        typer.secho(f"The issuer has not been told: {one_line(problem)}", fg="yellow", err=True)
