"""`portico webhooks` and `Client.webhooks` against a daemon. tests/server/features/webhooks tests what is sent."""

from __future__ import annotations

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import AsyncClient, InvalidRequest, NotFound

URL = "https://example.com/hook"


def test_a_webhook_is_made_shown_changed_rotated_and_deleted(command: Command) -> None:
    creation = command("webhooks", "create", URL, "--event", "batch.completed", "--name", "mine")
    secret = creation.out.strip()
    assert creation.code == 0 and secret.startswith("whsec_") and "is shown only this once" in creation.err
    [webhook] = command("webhooks", "list", "--json").json["data"]
    assert (webhook["name"], webhook["url"], webhook["event_types"]) == ("mine", URL, ["batch.completed"])
    hook = webhook["id"]
    assert hook in command("webhooks", "list").out
    details = command("webhooks", "show", hook)
    assert secret[-4:] in details.out and secret not in details.out
    change = command("webhooks", "change", hook, "--event", "run.finished", "--event", "run.failed")
    assert f"{hook} sends run.finished, run.failed to {URL}." in change.out
    assert "is disabled" in command("webhooks", "change", hook, "--disable").out
    assert command("webhooks", "change", hook, "--enable", "--json").json["disabled"] is None
    assert "No deliveries yet" in command("webhooks", "deliveries", hook).out
    rotated = command("webhooks", "rotate", hook, "--keep-old", "--json").json
    assert rotated["signing_secret"] not in ("", secret)
    assert command("webhooks", "rotate", hook, "--yes").out.strip().startswith("whsec_")
    assert "Would delete" in command("webhooks", "delete", hook, "--dry-run").out
    assert command("webhooks", "delete", hook, "--yes").code == 0
    assert "No webhooks yet" in command("webhooks", "list").out
    missing_result = command("webhooks", "show", hook)
    assert missing_result.code == 1 and f"The webhook '{hook}' does not exist." in missing_result.err


def test_an_invalid_webhook_is_refused_with_a_reason(command: Command) -> None:
    assert "batch.completed" in command("webhooks", "events").out.splitlines()
    wrong = command("webhooks", "create", URL, "--event", "batch.complete")
    assert wrong.code == 1 and "Did you mean 'batch.completed'" in wrong.err
    plain = command("webhooks", "create", "http://example.com", "--event", "batch.completed")
    assert plain.code == 1 and "use an https:// URL" in plain.err


async def test_the_async_client_manages_webhooks(daemon: Daemon) -> None:
    async with AsyncClient(daemon.url) as client:
        webhook = await client.webhooks.create(URL, ["run.failed"])
        assert (webhook.name, webhook.event_types, webhook.disabled) == (URL, ("run.failed",), None)
        assert webhook.signing_secret not in repr(webhook)
        changed_webhook = await client.webhooks.change(webhook.id, name="other", event_types=["run.finished"])
        assert (changed_webhook.name, changed_webhook.event_types) == ("other", ("run.finished",))
        assert await client.webhooks.get(webhook.id) == changed_webhook
        assert (
            await client.webhooks.rotate(webhook.id, keep_old=True)
        ).signing_secret != webhook.signing_secret
        assert changed_webhook.id in [hook.id for hook in await client.webhooks.list(limit=5)]
        assert "run.finished" in await client.webhooks.event_types()
        with pytest.raises(InvalidRequest):
            await client.webhooks.test(webhook.id, "run.ended")
        with pytest.raises(NotFound):
            await client.webhooks.redeliver(webhook.id, "evt_none")
        assert (await client.webhooks.deliveries(webhook.id)).data == ()
        await client.webhooks.remove(webhook.id)
        with pytest.raises(NotFound):
            await client.webhooks.get(webhook.id)
