"""Webhooks: URLs that are notified of finished work, and the deliveries to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content

from portico.schemas.webhooks import NewWebhook, Webhook, WebhookDelivery
from portico_tui.screens.page import AppServices, ListingScreen, SublistScreen, action, row_action
from portico_tui.text import cell, clock, one_line
from portico_tui.widgets.dialogs import Choose, Field, Form, Reader
from portico_tui.widgets.table_rows import TableColumn

DELIVERY_COLOURS = {"delivered": "green", "failed": "red"}


class WebhooksScreen(ListingScreen[Webhook]):
    """The webhooks and their event types, newest first."""

    MODE = "webhooks"
    TAB = "Webhooks"
    COLUMNS = (
        TableColumn[Webhook]("NAME", lambda hook: hook.name, "bold", 24),
        TableColumn[Webhook]("ADDRESS", lambda hook: hook.url, "", 36),
        TableColumn[Webhook](
            "STATE", lambda hook: cell("disabled", "red") if hook.disabled else cell("enabled", "green")
        ),
        TableColumn[Webhook]("EVENTS", lambda hook: list(hook.event_types)),
        TableColumn[Webhook](
            "MADE", lambda hook: clock(hook.created_at), "dim", sort=lambda hook: hook.created_at
        ),
    )
    EMPTY = (
        "No webhooks yet.\n\nPress n to create one, which is notified when a response, a batch or a run has "
        "ended."
    )

    async def find(self) -> Sequence[Webhook]:
        return await self.daemon.pages(self.client.webhooks.list)

    def detail(self, item: Webhook) -> Iterable[Content | str]:
        yield one_line(", ".join(item.event_types))
        if item.disabled:
            yield Content.styled(one_line(item.disabled), "$text-error")

    @row_action("enter", "Deliveries", "Sent and pending deliveries")
    async def deliveries(self, hook: Webhook) -> None:
        self.app.push_screen(DeliveriesScreen(self.services, hook))

    @action("n", "New", "Create a webhook; its secret is shown once")
    async def new(self) -> None:
        event_types = await self.client.webhooks.event_types()
        answers = await self.ask(
            Form(
                "Make a webhook",
                Field("url", "https address", hint="https://example.com/hook"),
                Field("events", "Events, separated by spaces", hint="batch.completed run.failed"),
                Field("name", "Name · optional", optional=True),
                about=f"Events: {', '.join(event_types)}.",
            )
        )
        if answers is not None:
            webhook = await self.client.webhooks.create(
                answers["url"], _events(answers["events"]), name=answers["name"] or None
            )
            self._show_secret(webhook)

    @row_action("t", "Test", "Send a sample event now, once")
    async def test(self, hook: Webhook) -> None:
        place = await self.app.push_screen_wait(Choose("Send a sample", list(hook.event_types), 0))
        if place is not None:
            status = await self.client.webhooks.test(hook.id, hook.event_types[place])
            self.report("Test", f"The receiver responded with HTTP {status}.")

    @row_action("e", "Edit", "Change the address, name or events; this also enables it")
    async def edit(self, hook: Webhook) -> None:
        answers = await self.ask(
            Form(
                "Change the webhook",
                Field("url", "https address", hook.url),
                Field("events", "Events, separated by spaces", " ".join(hook.event_types)),
                Field("name", "Name", hook.name),
            )
        )
        if answers is not None:
            await self.client.webhooks.change(
                hook.id, url=answers["url"], event_types=_events(answers["events"]), name=answers["name"]
            )

    @row_action("p", "Pause", "Disable the webhook until it is enabled, or enable it")
    async def pause(self, hook: Webhook) -> None:
        webhook = await self.client.webhooks.get(hook.id)
        await self.client.webhooks.change(hook.id, disabled=webhook.disabled is None)

    @row_action("s", "Secret", "Replace the secret; the new secret is shown once", footer=False)
    async def rotate(self, hook: Webhook) -> None:
        if await self.sure("Replace the secret? The previous secret also signs for 24 hours.", "Another"):
            self._show_secret(await self.client.webhooks.rotate(hook.id, keep_old=True))

    @row_action("d", "Delete", "Delete the webhook and its deliveries")
    async def delete(self, hook: Webhook) -> None:
        if await self.sure(f"Delete '{one_line(hook.name)}' and its deliveries?", "Delete"):
            await self.client.webhooks.remove(hook.id)

    def _show_secret(self, webhook: NewWebhook) -> None:
        text = f"{webhook.signing_secret}\n\nThe secret is shown only this once. Press y to copy it."
        title = f"Secret of '{one_line(webhook.name)}'"
        self.app.push_screen(Reader(title, text, copied_text=webhook.signing_secret))


def _events(text: str) -> list[str]:
    return text.replace(",", " ").split()


class DeliveriesScreen(SublistScreen[WebhookDelivery]):
    """The sent and pending deliveries of a webhook, newest first."""

    MODE = "webhooks"
    TAB = "Webhooks"
    COLUMNS = (
        TableColumn[WebhookDelivery](
            "MADE",
            lambda delivery: clock(delivery.created_at),
            "dim",
            sort=lambda delivery: delivery.created_at,
        ),
        TableColumn[WebhookDelivery]("EVENT", lambda delivery: delivery.event_type, "bold", 28),
        TableColumn[WebhookDelivery](
            "STATE", lambda delivery: cell(delivery.state, DELIVERY_COLOURS.get(delivery.state, "dim"))
        ),
        TableColumn[WebhookDelivery](
            "ATTEMPTS", lambda delivery: delivery.attempts, sort=lambda delivery: delivery.attempts
        ),
        TableColumn[WebhookDelivery](
            "ANSWER", lambda delivery: f"HTTP {delivery.last_status}" if delivery.last_status else ""
        ),
        TableColumn[WebhookDelivery](
            "NEXT", lambda delivery: clock(delivery.next_at) if delivery.next_at else "", "dim"
        ),
    )
    EMPTY = "No deliveries yet: an event is sent when work finishes."

    def __init__(self, services: AppServices, hook: Webhook) -> None:
        super().__init__(services, f"Deliveries to {hook.name}")
        self._hook = hook

    async def find(self) -> Sequence[WebhookDelivery]:
        return (await self.client.webhooks.deliveries(self._hook.id, limit=100)).data

    def detail(self, item: WebhookDelivery) -> Iterable[Content | str]:
        yield one_line(f"{item.id} · {item.payload.get('data', {}).get('id', '')}")
        if item.last_error:
            yield Content.styled(one_line(item.last_error), "$text-error")

    @row_action("r", "Send again", "Send the event again, with a new series of attempts")
    async def redeliver(self, delivery: WebhookDelivery) -> None:
        await self.client.webhooks.redeliver(self._hook.id, delivery.id)
