"""`portico chats`: chat completions that were stored."""

from __future__ import annotations

from typing import Annotated

import typer

from portico.cli.pairs import pairs
from portico.cli.render import moment, print_fields, print_json, print_rows, safe, shorten
from portico.cli.session import AsJson, Yes, confirm, connected

app = typer.Typer(
    no_args_is_help=True,
    help="Chats: chat completions that were asked for with 'store'.",
    epilog="Example: portico chats list --model default",
)

Which = Annotated[str, typer.Argument(metavar="ID", help="The chat: portico chats list.")]


@app.command("list", epilog="Example: portico chats list --model default --label topic=tea")
def show_all(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Those that one model answered.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Those with this in their metadata.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List stored chat completions, the newest first."""
    wanted = pairs(label or [], "--label")
    with connected(context) as client:
        page = client.chats.list(model=model, metadata=wanted, limit=limit)
    if as_json:
        print_json({"data": [chat.raw for chat in page.data], "has_more": page.has_more})
    elif not page.data:
        typer.echo("No stored chats.")
    else:
        print_rows(
            ("ID", "MODEL", "ANSWER", "MADE"),
            ((chat.id, chat.model, shorten(chat.text, 60), moment(chat.created)) for chat in page.data),
        )


@app.command(epilog="Example: portico chats show chatcmpl-0192f6")
def show(context: typer.Context, which: Which, as_json: AsJson = False) -> None:
    """Show a stored chat: its messages and its answer."""
    with connected(context) as client:
        chat, messages = client.chats.get(which), client.chats.messages(which)
    if as_json:
        print_json({**chat.raw, "messages": messages})
        return
    print_fields(
        [
            ("id", chat.id),
            ("model", chat.model),
            ("made", moment(chat.created)),
            *((f"metadata {name}", value) for name, value in chat.metadata.items()),
            *((str(message["role"]), str(message["content"] or "…")) for message in messages),
            ("answer", chat.text),
        ]
    )


@app.command(epilog="Example: portico chats delete chatcmpl-0192f6 --yes")
def delete(context: typer.Context, which: Which, yes: Yes = False, as_json: AsJson = False) -> None:
    """Forget a stored chat."""
    confirm(f"Forget the stored chat '{which}'?", yes=yes)
    with connected(context) as client:
        client.chats.remove(which)
    if as_json:
        print_json({"removed": which})
    else:
        typer.echo(f"Forgot '{safe(which)}'.")
