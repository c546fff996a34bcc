"""`portico facts`: what agents have learned in conversations and remember in later ones."""

from __future__ import annotations

from typing import Annotated

import typer

from portico.cli.nouns import print_listing, print_outcome
from portico.cli.render import safe
from portico.cli.root import group
from portico.cli.session import AsJson, Yes, confirm, connected
from portico.cli.sessions import find_session
from portico.schemas.facts import FACTS

app = group("facts", "portico facts list --session guide/monday")

Which = Annotated[str, typer.Argument(metavar="ID", help="The id of the fact: portico facts list.")]


@app.command("list", epilog="Example: portico facts list --session guide/monday")
def show_all(
    context: typer.Context,
    session: Annotated[
        str | None, typer.Option(metavar="APP/NAME|ID", help="Only facts learned in this session.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Only facts learned by this agent.")] = None,
    store: Annotated[str | None, typer.Option(help="Only facts in this store.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what agents remember from your conversations, newest first."""
    with connected(context) as client:
        within = None if session is None else find_session(client, session).id
        facts = client.facts.list(store=store, agent=agent, session=within, limit=limit)
    print_listing(facts, as_json, FACTS.columns, "No facts.")


@app.command(epilog="Example: portico facts change fact_0192f6 'Ann lives in Porto.'")
def change(
    context: typer.Context,
    which: Which,
    text: Annotated[str, typer.Argument(help="The new text.")],
    as_json: AsJson = False,
) -> None:
    """Replace the text of a fact. The record of its origin stays unchanged."""
    with connected(context) as client:
        fact = client.facts.change(which, text)
    print_outcome(fact, as_json, f"{safe(fact.id)} says: {safe(fact.text)}")


@app.command(epilog="Example: portico facts delete fact_0192f6 --yes")
def delete(context: typer.Context, which: Which, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a fact."""
    confirm(f"Delete the fact '{which}'?", yes=yes)
    with connected(context) as client:
        client.facts.remove(which)
    print_outcome({"removed": which}, as_json, f"Forgot '{safe(which)}'.")
