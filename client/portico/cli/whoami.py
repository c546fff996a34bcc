"""`portico whoami`: prints the caller's identity and permissions."""

from __future__ import annotations

import typer

from portico.cli.nouns import fields_of, print_item
from portico.cli.render import moment, plain
from portico.cli.session import AsJson, connected

app = typer.Typer()

_BY = {"nothing": "nothing: this daemon needs no key", "token": "sign-in"}


@app.command(epilog="Example: portico whoami")
def whoami(context: typer.Context, as_json: AsJson = False) -> None:
    """Print your identity at the daemon: role, scopes and limits, and when the token expires."""
    with connected(context) as client:
        found_whoami = client.whoami()
        url = client.url
    print_item(
        {"url": url, **plain(found_whoami)},
        as_json,
        ("name", found_whoami.name),
        ("id", found_whoami.id),
        ("at", url),
        ("by", _BY.get(found_whoami.by, found_whoami.by)),
        *fields_of(found_whoami, "issuer", "subject", "role", "scopes"),
        ("limits", tuple(f"{name}={value}" for name, value in sorted(found_whoami.limits.items()))),
        ("until", moment(found_whoami.expires_at)),
    )
