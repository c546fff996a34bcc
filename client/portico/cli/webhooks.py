"""`portico webhooks`: manages notifications about finished work."""

from __future__ import annotations

from typing import Annotated

import typer

from portico.cli.complete import event_types
from portico.cli.nouns import fields_of, print_item, print_listing, print_outcome, print_removed
from portico.cli.render import moment, print_json
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, confirm, connected, may_remove
from portico.schemas.resource import Column
from portico.schemas.webhooks import WEBHOOKS, NewWebhook

app = group("webhooks", "portico webhooks create https://example.com/hook --event batch.completed")

Identity = Annotated[str, typer.Argument(metavar="ID", help="The id of the webhook.")]


@app.command(
    epilog="Example: portico webhooks create https://example.com/hook --event batch.completed --event batch.failed"
)
def create(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="The https URL that receives the events.")],
    event: Annotated[
        list[str],
        typer.Option(
            help="An event type to send, such as response.completed; repeatable. List all types with 'portico "
            "webhooks events'.",
            autocompletion=event_types,
        ),
    ],
    name: Annotated[str | None, typer.Option(help="The name of the webhook (default: its URL).")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a webhook. Its secret is shown only once."""
    with connected(context) as client:
        webhook = client.webhooks.create(url, event, name=name)
    _show_secret(webhook, as_json)


@app.command(epilog="Example: portico webhooks events")
def events(context: typer.Context, as_json: AsJson = False) -> None:
    """List the event types that a webhook can subscribe to."""
    with connected(context) as client:
        found_event_types = client.webhooks.event_types()
    if as_json:
        print_json({"data": found_event_types})
    else:
        for name in found_event_types:
            typer.echo(name)


@app.command("list", epilog="Example: portico webhooks list --limit 5")
def show_all(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Number of webhooks, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List webhooks, newest first."""
    with connected(context) as client:
        page = client.webhooks.list(limit=limit)
    empty = "No webhooks yet: portico webhooks create URL --event batch.completed"
    print_listing(page, as_json, WEBHOOKS.columns, empty)


@app.command(epilog="Example: portico webhooks show wh_0192f6")
def show(context: typer.Context, webhook_id: Identity, as_json: AsJson = False) -> None:
    """Show a webhook, without its secret."""
    with connected(context) as client:
        webhook = client.webhooks.get(webhook_id)
    print_item(
        webhook,
        as_json,
        *fields_of(webhook, "id", "name", "url"),
        *(("event", name) for name in webhook.event_types),
        ("secret", webhook.signing_secret_hint),
        ("disabled", webhook.disabled),
        ("made", moment(webhook.created_at)),
        ("changed", moment(webhook.updated_at)),
    )


@app.command(epilog="Example: portico webhooks change wh_0192f6 --url https://example.com/other")
def change(
    context: typer.Context,
    webhook_id: Identity,
    url: Annotated[str | None, typer.Option(help="The URL that receives the events.")] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(help="All event types to send; repeatable.", autocompletion=event_types),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The name of the webhook.")] = None,
    disable: Annotated[
        bool | None,
        typer.Option("--disable/--enable", help="Disable the webhook.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a webhook. A disabled webhook is enabled again."""
    with connected(context) as client:
        webhook = client.webhooks.change(
            webhook_id, url=url, event_types=event or None, name=name, disabled=disable
        )
    if as_json:
        print_json(webhook)
    elif webhook.disabled:
        typer.echo(f"{webhook.id} is disabled: nothing is sent to {webhook.url}.")
    else:
        typer.echo(f"{webhook.id} sends {', '.join(webhook.event_types)} to {webhook.url}.")


@app.command("test", epilog="Example: portico webhooks test wh_0192f6 --event batch.completed")
def send_test(
    context: typer.Context,
    webhook_id: Identity,
    event: Annotated[
        str | None,
        typer.Option(help="The event type (default: the first of the webhook).", autocompletion=event_types),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a sample event now, once. Exit code 1 if the response is not a status of 200 to 299."""
    with connected(context) as client:
        event = event or client.webhooks.get(webhook_id).event_types[0]
        status = client.webhooks.test(webhook_id, event)
    print_outcome(
        {"webhook": webhook_id, "event_type": event, "status_code": status},
        as_json,
        f"The receiver responded with HTTP {status}.",
    )
    if not 200 <= status < 300:
        raise typer.Exit(1)


@app.command(epilog="Example: portico webhooks rotate wh_0192f6 --keep-old")
def rotate(
    context: typer.Context,
    webhook_id: Identity,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Also sign with the previous secret, for 24 hours.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Replace the secret of a webhook. The new secret is shown only once."""
    with connected(context) as client:
        if not keep_old:
            confirm(f"Invalidate the secret of '{webhook_id}' immediately?", yes=yes)
        webhook = client.webhooks.rotate(webhook_id, keep_old=keep_old)
    _show_secret(webhook, as_json)


@app.command(epilog="Example: portico webhooks delete wh_0192f6 --yes")
def delete(
    context: typer.Context,
    webhook_id: Identity,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete a webhook and its deliveries."""
    with connected(context) as client:
        webhook = client.webhooks.get(webhook_id)
        subject = f"the webhook to {webhook.url}"
        if may_remove(f"Delete {subject}?", yes=yes, dry_run=dry_run):
            client.webhooks.remove(webhook_id)
    print_removed(webhook.id, subject, dry_run, as_json, "delete")


@app.command(epilog="Example: portico webhooks deliveries wh_0192f6")
def deliveries(
    context: typer.Context,
    webhook_id: Identity,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Number of deliveries, newest first.")] = 20,
    after: Annotated[
        str | None,
        typer.Option(help="Only deliveries older than the delivery with this id.", metavar="DELIVERY"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the sent and pending deliveries of a webhook, newest first."""
    with connected(context) as client:
        page = client.webhooks.deliveries(webhook_id, after=after, limit=limit)
    columns = (
        Column("ID"),
        Column("EVENT", "event_type"),
        Column("STATE"),
        Column("ATTEMPTS"),
        Column("MADE", "created_at", kind="moment"),
        Column("NEXT", "next_at", kind="moment"),
        Column("LAST ERROR", "last_error"),
    )
    print_listing(page, as_json, columns, "No deliveries yet: an event is sent when work finishes.")


@app.command(epilog="Example: portico webhooks redeliver wh_0192f6 evt_0192f7")
def redeliver(
    context: typer.Context,
    webhook_id: Identity,
    delivery_id: Annotated[str, typer.Argument(metavar="DELIVERY", help="The id of the delivery.")],
    as_json: AsJson = False,
) -> None:
    """Send an event again, even if it has already been delivered."""
    with connected(context) as client:
        webhook_delivery = client.webhooks.redeliver(webhook_id, delivery_id)
    print_outcome(
        webhook_delivery,
        as_json,
        f"{webhook_delivery.id} is {webhook_delivery.state}: portico webhooks deliveries {webhook_id}",
    )


def _show_secret(webhook: NewWebhook, as_json: bool) -> None:
    if as_json:
        print_json(webhook)
        return
    typer.echo(webhook.signing_secret)
    typer.echo(f"The secret of '{webhook.name}' ({webhook.id}) is shown only this once.", err=True)
