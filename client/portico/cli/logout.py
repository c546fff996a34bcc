"""`portico logout`: ends a sign-in that `portico login` has created."""

from __future__ import annotations

import typer

from portico.cli.render import one_line, print_json
from portico.cli.session import AsJson, deferred, invocation
from portico.errors import PorticoError

app = typer.Typer()


@app.command(epilog="Example: portico logout")
def logout(context: typer.Context, as_json: AsJson = False) -> None:
    """Sign out of a daemon: remove the local tokens, and have the issuer revoke them if it supports that.

    The local tokens are removed even if the issuer is unreachable.
    """
    import asyncio

    with deferred("httpx._main"):
        from portico import _issuer, _sign_ins
        from portico._transport import Address

    place = _sign_ins.place_of(Address.of(invocation(context).url, "").url)
    with _sign_ins.hold_lock():
        sign_in = _sign_ins.read_sign_ins().get(place)
        if sign_in is not None:
            _sign_ins.keep(place, None)
    has_ended, problem = False, ""
    if sign_in is not None:
        tokens = (sign_in.issuer, sign_in.client_id, sign_in.refresh_token)
        try:
            has_ended = asyncio.run(_issuer.revoke_tokens(*tokens))
        except PorticoError as error:
            problem = error.message
    if as_json:
        print_json({"url": place, "signed_out": sign_in is not None, "ended_at_issuer": has_ended})
    elif sign_in is None:
        typer.echo(f"Nobody was signed in at {one_line(place)}.")
    else:
        sign_in_place = " and at the issuer" if has_ended else ""
        typer.echo(f"Signed out at {one_line(place)}{sign_in_place}.")
    if problem:
        typer.secho(f"The issuer could not be notified: {one_line(problem)}", fg="yellow", err=True)
