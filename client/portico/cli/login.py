"""`portico login`: signs in to a daemon with an account of the daemon's issuer."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.open import has_browser
from portico.cli.render import one_line, print_json
from portico.cli.session import AsJson, Yes, confirm, deferred, invocation
from portico.errors import InvalidRequest, PorticoError

if TYPE_CHECKING:
    from portico._issuer import GrantedTokens, Show, SignInOffer, SignInPrompt
    from portico.schemas.keys import Whoami

app = typer.Typer()


@app.command(epilog="Example: portico login")
def login(
    context: typer.Context,
    issuer: Annotated[str, typer.Option(help="The issuer to use, if the daemon has several.")] = "",
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address without opening a browser.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Sign in to a daemon with your account at its issuer, instead of a key.

    If the issuer supports device sign-in, the browser can be on any machine: enter the code there. The sign-in is
    renewed automatically, and your commands, terminal UI and programs use it when no key is given. If you are already
    signed in, nothing changes.
    """
    import asyncio

    with deferred("httpx._main"):
        from portico import _issuer, _sign_ins
        from portico._transport import Address

    url = Address.of(invocation(context).url, "").url
    place = _sign_ins.place_of(url)
    _issuer.require_private(url)
    whoami = _signed_in(place)
    if whoami is None:
        offer = _choose_offer(asyncio.run(_issuer.offers(url)), issuer, url)
        _confirm_other_daemons(place, offer, yes=yes)
        places = asyncio.run(_issuer.discovered(offer.issuer))
        tokens = _agreed(lambda show: _issuer.sign_in(places, offer, show), place, opens=not no_browser)
        whoami = _check_tokens(url, tokens, offer)
        with _sign_ins.hold_lock():
            _sign_ins.keep(place, _sign_ins.KeptSignIn.of(offer.issuer, offer.client_id, tokens))
        outcome = "Signed in"
    else:
        outcome = "Already signed in"
    identity = {name: getattr(whoami, name) for name in ("name", "role", "issuer", "subject", "expires_at")}
    if as_json:
        print_json({"url": place, "changed": outcome == "Signed in", **identity})
    else:
        role = f", role {one_line(whoami.role)}" if whoami.role else ""
        typer.echo(f"{outcome} at {one_line(place)} as {one_line(whoami.name)}{role}.")
    if invocation(context).key or os.environ.get("PORTICO_API_KEY"):
        typer.secho("A key is set, by --key or PORTICO_API_KEY: it takes precedence.", fg="yellow", err=True)


def _signed_in(place: str) -> Whoami | None:
    """Return the identity of the signed-in user, or ``None`` if nobody is signed in or the daemon rejects the
    sign-in.
    """
    from portico import Client, _sign_ins
    from portico.errors import Forbidden, Unauthenticated

    try:
        sign_in = _sign_ins.current(place)
        if sign_in is None:
            return None
        with Client(place, sign_in.token) as client:
            return client.whoami()
    except (Unauthenticated, Forbidden):
        return None


def _choose_offer(offers: Sequence[SignInOffer], issuer: str, url: str) -> SignInOffer:
    fitting = [offer for offer in offers if issuer in ("", offer.issuer)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(one_line(offer.issuer) for offer in offers)
    raise InvalidRequest(f"{url} accepts several issuers: {names}. Choose one with --issuer.", param="issuer")


def _confirm_other_daemons(place: str, offer: SignInOffer, *, yes: bool) -> None:
    """Ask for confirmation before a daemon receives tokens that are also valid for this user's other daemons: its
    operator could use them there.
    """
    from portico import _sign_ins

    sign_in_client = (offer.issuer, offer.client_id)
    other_daemons = [
        at
        for at, sign_in in _sign_ins.read_sign_ins().items()
        if at != place and (sign_in.issuer, sign_in.client_id) == sign_in_client
    ]
    if other_daemons:
        confirm(
            f"{place} receives the same tokens as {', '.join(map(one_line, other_daemons))}: its operator "
            "could use them there. Do you trust it?",
            yes=yes,
        )


def _agreed(
    flow: Callable[[Show], Coroutine[Any, Any, GrantedTokens]], place: str, *, opens: bool
) -> GrantedTokens:
    """Return the tokens once the person has agreed in a browser. Ctrl-C cancels without storing data."""
    import asyncio
    import webbrowser
    from contextlib import ExitStack

    from portico.cli.progress import Spinner

    with ExitStack() as exit_stack:

        def show(prompt: SignInPrompt) -> None:
            typer.echo(f"Sign in at {one_line(place)}: open {prompt.address}", err=True)
            if prompt.code:
                typer.echo(f"and enter the code {typer.style(one_line(prompt.code), bold=True)}", err=True)
            if opens and has_browser():
                webbrowser.open(prompt.link)
            exit_stack.enter_context(
                Spinner("Waiting for your approval in the browser. Press Ctrl-C to cancel.")
            )

        return asyncio.run(flow(show))


def _check_tokens(url: str, tokens: GrantedTokens, offer: SignInOffer) -> Whoami:
    """Return the user's identity at the daemon. If the daemon rejects the tokens, revoke them at the issuer and raise
    the error.
    """
    import asyncio
    import contextlib

    from portico import Client, _issuer

    try:
        with Client(url, tokens.token) as client:
            return client.whoami()
    except PorticoError:
        given_tokens = (offer.issuer, offer.client_id, tokens.refresh_token)
        with contextlib.suppress(PorticoError):
            asyncio.run(_issuer.revoke_tokens(*given_tokens))
        raise
