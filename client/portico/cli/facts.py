"""`portico facts`: what agents have learned in conversations and remember in later ones."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from portico.cli.nouns import fields_of, print_listing, print_outcome
from portico.cli.render import json_text, moment, print_fields, print_json, print_rows, safe
from portico.cli.root import group
from portico.cli.session import AsJson, Yes, confirm, connected
from portico.cli.sessions import find_session
from portico.schemas.facts import FACTS
from portico.schemas.resource import Column

app = group("facts", "portico facts list --session guide/monday")

MAX_PAGE_FACTS: Final = 1000
"""Maximum number of facts per request of an export."""

Which = Annotated[str, typer.Argument(metavar="ID", help="The id of the fact: portico facts list.")]


@app.command("list", epilog="Example: portico facts list --session guide/monday")
def show_all(
    context: typer.Context,
    session: Annotated[
        str | None, typer.Option(metavar="APP/NAME|ID", help="Only facts learned in this session.")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Only facts learned by this agent.")] = None,
    store: Annotated[str | None, typer.Option(help="Only facts in this store.")] = None,
    versions: Annotated[
        bool, typer.Option("--all", help="Include the former versions of each fact.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of facts.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List what agents remember from your conversations, newest first."""
    with connected(context) as client:
        within = None if session is None else find_session(client, session).id
        facts = client.facts.list(store=store, agent=agent, session=within, versions=versions, limit=limit)
    columns = [*FACTS.columns, Column("ENDED", "reason")] if versions else FACTS.columns
    print_listing(facts, as_json, columns, "No facts.")


@app.command(epilog="Example: portico facts show fact_0192f6")
def show(context: typer.Context, fact_id: Which, as_json: AsJson = False) -> None:
    """Show a fact, the words from which it was learnt, its origin and its history."""
    with connected(context) as client:
        history = client.facts.get(fact_id)
    if as_json:
        print_json(history)
        return
    fact = history.fact
    range_text = f" (characters {fact.span.start} to {fact.span.end} of the message)" if fact.span else ""
    print_fields(
        [
            *fields_of(fact, "id", "store", "text"),
            (
                "said",
                f"{fact.span.words}{range_text}"
                if fact.span
                else "no words of a conversation support this text",
            ),
            ("agent", fact.source.agent),
            ("session", fact.source.conversation or None),
            ("message", fact.source.message),
            ("run", fact.source.run),
            ("created", moment(fact.created_at)),
            ("changed", moment(fact.changed_at)),
        ]
    )
    if history.versions:
        typer.echo()
        print_rows(
            ("SINCE", "ENDED", "REASON", "FACT", "SAID"),
            (
                (
                    moment(version.changed_at),
                    moment(version.ended_at),
                    version.reason,
                    version.text,
                    version.span.words if version.span else "",
                )
                for version in history.versions
            ),
        )


@app.command(epilog="Example: portico facts change fact_0192f6 'Ann lives in Porto.'")
def change(
    context: typer.Context,
    which: Which,
    text: Annotated[str, typer.Argument(help="The new text.")],
    as_json: AsJson = False,
) -> None:
    """Replace the text of a fact. The previous text stays in its history."""
    with connected(context) as client:
        fact = client.facts.change(which, text)
    print_outcome(fact, as_json, f"{safe(fact.id)} says: {safe(fact.text)}")


@app.command(epilog="Example: portico facts revert fact_0192f6")
def revert(context: typer.Context, fact_id: Which, as_json: AsJson = False) -> None:
    """Restore the version before the last change. The present version stays in the history."""
    with connected(context) as client:
        fact = client.facts.revert(fact_id)
    print_outcome(fact, as_json, f"{safe(fact.id)} says again: {safe(fact.text)}")


@app.command(epilog="Example: portico facts export > facts.jsonl")
def export(context: typer.Context, as_json: AsJson = False) -> None:
    """Print every version of your facts as JSON lines."""
    with connected(context) as client:
        facts = client.facts.list(versions=True, limit=MAX_PAGE_FACTS)
        while facts:
            for fact in facts:
                typer.echo(json_text(fact))
            facts = client.facts.list(versions=True, after=facts[-1].id, limit=MAX_PAGE_FACTS)


@app.command(epilog="Example: portico facts delete fact_0192f6 --yes")
def delete(context: typer.Context, which: Which, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a fact with its history."""
    confirm(f"Delete the fact '{which}'?", yes=yes)
    with connected(context) as client:
        client.facts.remove(which)
    print_outcome({"removed": which}, as_json, f"Forgot '{safe(which)}'.")
