"""`portico sessions`: manages conversations with agents, and the memories of agents."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.nouns import fields_of, print_listing, print_outcome, print_removed
from portico.cli.render import moment, print_fields, print_json, safe, shorten
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, confirm, connected, may_remove
from portico.errors import Conflict, InvalidRequest, NotFound
from portico.schemas.resource import Column
from portico.schemas.sessions import SESSIONS, Session

if TYPE_CHECKING:
    from portico.client import Client

app = group("sessions", "portico sessions show clerk/monday")

Which = Annotated[str, typer.Argument(metavar="APP/NAME|ID", help="The session, by app and name or by id.")]


@app.command("list", epilog="Example: portico sessions list --app clerk")
def show_all(
    context: typer.Context,
    of: Annotated[str | None, typer.Option("--app", help="Only sessions of this app.")] = None,
    search: Annotated[
        str, typer.Option(help="Only sessions with this text in their title or messages.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number.")] = 100,
    after: Annotated[str | None, typer.Option(help="Only sessions after the session with this id.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the sessions, most recently used first."""
    with connected(context) as client:
        sessions = client.sessions.list(of, search=search, after=after, limit=limit)
    print_listing(sessions, as_json, SESSIONS.columns, "No sessions.")


@app.command(epilog="Example: portico sessions show clerk/monday")
def show(
    context: typer.Context,
    which: Which,
    agent: Annotated[
        str | None,
        typer.Option(help="Only the memory of one agent in the tree, such as writer (default: all)."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Number of messages, oldest first.")] = 1000,
    after: Annotated[int, typer.Option(min=0, help="Only messages after this number.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show the messages of a session."""
    with connected(context) as client:
        session = find_session(client, which)
        several = client.sessions.messages(session.id, agent, after=after, limit=limit + 1)
    messages, has_more = several[:limit], len(several) > limit
    if as_json:
        print_json({"session": session, "messages": messages, "has_more": has_more})
        return
    print_fields(
        [
            *fields_of(session, "id", "app", "name", "title"),
            ("begun", moment(session.created_at)),
            ("used", moment(session.updated_at)),
        ]
    )
    for item in messages:
        agent_text = f" · {item.agent}" if item.agent else ""
        typer.secho(f"\n{safe(str(item.message.get('sender')))}{safe(agent_text)}", bold=True)
        typer.echo(safe(_text(item.message.get("content"))))
    if has_more:
        typer.echo(f"There are more: use --after {messages[-1].seq}", err=True)


@app.command(epilog="Example: portico sessions rename clerk/monday 'The broken heater'")
def rename(
    context: typer.Context,
    which: Which,
    title: Annotated[str, typer.Argument(help="The topic, for display. The name stays unchanged.")],
    as_json: AsJson = False,
) -> None:
    """Set the title of a session."""
    with connected(context) as client:
        session = client.sessions.change(find_session(client, which).id, title=title)
    print_outcome(session, as_json, f"'{safe(session.name)}' now has the title '{safe(session.title)}'.")


class RatingValue(StrEnum):
    """Possible ratings of an answer."""

    good = "good"
    bad = "bad"
    corrected = "corrected"


@app.command(epilog="Example: portico sessions rate clerk/monday 4 good")
def rate(
    context: typer.Context,
    which: Which,
    message: Annotated[
        int, typer.Argument(min=1, help="The number of the answer: portico sessions show --json.")
    ],
    value: Annotated[RatingValue, typer.Argument(help="Your rating.")],
    correction: Annotated[
        str, typer.Option(help="The answer that you expected; only with `corrected`.")
    ] = "",
    note: Annotated[str, typer.Option(help="Why.")] = "",
    as_json: AsJson = False,
) -> None:
    """Rate an answer. Ratings are used later for training and evaluation."""
    with connected(context) as client:
        session = find_session(client, which)
        session_message = client.sessions.rate(session.id, message, value, correction=correction, note=note)
    print_outcome(session_message, as_json, f"Message {message} is rated: {value}.")


@app.command(epilog="Example: portico sessions ratings --value corrected --json")
def ratings(
    context: typer.Context,
    of: Annotated[str | None, typer.Option("--app", help="Only answers of this app.")] = None,
    model: Annotated[str | None, typer.Option(help="Only answers of this model.")] = None,
    value: Annotated[RatingValue | None, typer.Option(help="Only answers with this rating.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Maximum number.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List rated answers, oldest first."""
    with connected(context) as client:
        found_ratings = client.sessions.ratings(app=of, model=model, value=value, limit=limit)
    columns = (
        Column("RATING", "value"),
        Column("MODEL"),
        Column("ANSWER"),
        Column("NOTE", width=40),
        Column("RATED", "rated_at", kind="moment"),
        Column("ID"),
    )
    print_listing(
        found_ratings, as_json, columns, "No ratings.", {"ANSWER": lambda r: shorten(_text(r.answer), 60)}
    )


@app.command(epilog="Example: portico sessions fork clerk/monday --name tuesday")
def fork(
    context: typer.Context,
    which: Which,
    name: Annotated[str, typer.Option(help="The name of the copy (default: its id).")] = "",
    as_json: AsJson = False,
) -> None:
    """Copy a session. The copy is independent of the original."""
    with connected(context) as client:
        session = client.sessions.fork(find_session(client, which).id, name)
    print_outcome(session, as_json, f"The copy is {safe(session.app)}/{safe(session.name)}.")


@app.command(epilog="Example: portico sessions reset clerk/monday --yes")
def reset(context: typer.Context, which: Which, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete all messages of a session, including the memory of every agent in it."""
    with connected(context) as client:
        session = find_session(client, which)
        confirm(f"Delete all messages in '{session.name}'?", yes=yes)
        session = client.sessions.reset(session.id)
    print_outcome(session, as_json, f"'{safe(session.name)}' is empty.")


@app.command(epilog="Example: portico sessions delete clerk/monday --yes")
def delete(
    context: typer.Context, which: Which, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Remove a session with all its messages."""
    with connected(context) as client:
        session = find_session(client, which)
        if may_remove(f"Remove the session '{session.name}' of '{session.app}'?", yes=yes, dry_run=dry_run):
            client.sessions.remove(session.id)
    print_removed(session.id, f"'{session.name}'", dry_run, as_json)


@app.command(epilog="Example: portico sessions publish clerk/monday --days 7")
def publish(
    context: typer.Context,
    ref: Which,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days until the link expires.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Create a link with which anyone can read a copy of a session as it is now."""
    with connected(context) as client:
        link = client.sessions.publish(find_session(client, ref).id, days=days)
        address = f"{client.url.rstrip('/')}{link.path}"
    print_outcome(link, as_json, f"{safe(address)}\nThe link is shown only once. Remove it with `unpublish`.")


@app.command(epilog="Example: portico sessions public-links clerk/monday")
def public_links(context: typer.Context, ref: Which, as_json: AsJson = False) -> None:
    """List the public links of a session, without their secrets."""
    with connected(context) as client:
        links = client.sessions.public_links(find_session(client, ref).id)
    columns = (
        Column("CREATED", "created_at", kind="moment"),
        Column("EXPIRES", "expires_at", kind="moment"),
        Column("ID"),
    )
    print_listing(links, as_json, columns, "No public links.")


@app.command(epilog="Example: portico sessions unpublish clerk/monday link_01a2b3")
def unpublish(
    context: typer.Context,
    ref: Which,
    link: Annotated[str, typer.Argument(metavar="ID", help="The id of the link: `public-links`.")],
    as_json: AsJson = False,
) -> None:
    """Remove a public link of a session, so that nobody can open the link again."""
    with connected(context) as client:
        client.sessions.unpublish(find_session(client, ref).id, link)
    print_removed(link, f"the link '{link}'", False, as_json)


@app.command(epilog="Example: portico sessions export clerk/monday > monday.json")
def export(context: typer.Context, which: Which, as_json: AsJson = False) -> None:
    """Print a session as JSON, with the memory of every agent. `import` reads this JSON."""
    with connected(context) as client:
        state = client.sessions.state(find_session(client, which).id)
    print_json(state)


@app.command("import", epilog="Example: portico sessions import monday.json clerk/copy")
def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Output of `export`; - reads standard input.")],
    which: Annotated[
        str,
        typer.Argument(
            metavar="APP/NAME", help="The session to import into. If it does not exist, it is created."
        ),
    ],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Import a session. Existing messages in the target session are replaced."""
    state = _state(file)
    of, slash, name = which.partition("/")
    if not slash or not of or not name:
        raise InvalidRequest("Give the target session: APP/NAME.", param="which")
    with connected(context) as client:
        session = client.sessions.open(of, name)
        if client.sessions.messages(session.id, limit=1):
            confirm(f"Replace all messages in '{name}'?", yes=yes)
        session = client.sessions.load(session.id, state)
    print_outcome(session, as_json, f"{safe(session.app)}/{safe(session.name)} is there.")


def find_session(client: Client, reference: str) -> Session:
    """Return a session, given its id, or its app and name. Raises `NotFound`, or `Conflict` if several keys have a
    session with that name.
    """
    of, slash, name = reference.partition("/")
    if not slash:
        return client.sessions.get(reference)
    sessions = client.sessions.list(of, name=name, limit=2)
    if not sessions:
        raise NotFound(f"'{of}' has no session '{name}'. List them: portico sessions list", param="which")
    if len(sessions) > 1:
        raise Conflict(
            f"Several keys have a session '{name}' of '{of}'. Use its id: portico sessions list --app {of}",
            param="which",
        )
    return sessions[0]


def _state(file: Path) -> dict[str, Any]:
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    try:
        state = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{file} is not JSON: {error}.", param="file") from error
    if not isinstance(state, dict):
        raise InvalidRequest(f"{file} is not a session: it must be a JSON object.", param="file")
    return state


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or f"[{part.get('type')}]") for part in content or ())
