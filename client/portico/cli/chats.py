"""`portico chats`: stored chat completions."""

from __future__ import annotations

from typing import Annotated

import typer

from portico.cli.nouns import print_item, print_listing, print_outcome
from portico.cli.pairs import pairs
from portico.cli.render import moment, print_json, safe
from portico.cli.root import group
from portico.cli.session import AsJson, Yes, confirm, connected
from portico.schemas.models import CHATS

app = group("chats", "portico chats list --model default")

Which = Annotated[str, typer.Argument(metavar="ID", help="The id of the chat: portico chats list.")]


@app.command("list", epilog="Example: portico chats list --model default --label topic=tea")
def show_all(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only chats answered by this model.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only chats with this label in their metadata."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Maximum number.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List stored chat completions, newest first."""
    metadata = pairs(label or [], "--label")
    with connected(context) as client:
        page = client.chats.list(model=model, metadata=metadata, limit=limit)
    if as_json:
        print_json({"data": [chat.raw for chat in page.data], "has_more": page.has_more})
    else:
        print_listing(page, False, CHATS.columns, "No stored chats.")


@app.command(epilog="Example: portico chats show chatcmpl-0192f6")
def show(context: typer.Context, which: Which, as_json: AsJson = False) -> None:
    """Show a stored chat: its messages and its answer."""
    with connected(context) as client:
        chat, messages = client.chats.get(which), client.chats.messages(which)
    print_item(
        {**chat.raw, "messages": messages},
        as_json,
        ("id", chat.id),
        ("model", chat.model),
        ("made", moment(chat.created)),
        *((f"metadata {name}", value) for name, value in chat.metadata.items()),
        *((str(message["role"]), str(message["content"] or "…")) for message in messages),
        ("answer", chat.text),
    )


@app.command(epilog="Example: portico chats delete chatcmpl-0192f6 --yes")
def delete(context: typer.Context, which: Which, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a stored chat."""
    confirm(f"Delete the stored chat '{which}'?", yes=yes)
    with connected(context) as client:
        client.chats.remove(which)
    print_outcome({"removed": which}, as_json, f"Forgot '{safe(which)}'.")
