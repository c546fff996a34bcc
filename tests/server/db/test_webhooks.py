"""Webhook events as the database hands them out: to one daemon at a time, bounded, under a lease."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import Connection, text

from portico_server.db import webhooks as rows
from portico_server.db.database import Database
from portico_server.db.webhooks import DeliveryBounds, DeliveryOutcome, WebhookRow

BOUNDS = DeliveryBounds(here=8, per_webhook=2, per_owner=3)

DELIVERED = DeliveryOutcome(delivered=True, status=200)


def hook(name: str, owner: str = "key_one", *, events: Any = ("run.finished",)) -> WebhookRow:
    return WebhookRow(f"wh_{name}", owner, name, "https://example.com", list(events), "whsec_QQ==", 1.0, 1.0)


async def added(database: Database, *hooks: WebhookRow) -> None:
    for row in hooks:
        assert await database.write(rows.add, row, 20)


async def announced(database: Database, *subjects: str, owner: str = "key_one") -> None:
    for subject in subjects:
        await database.write(rows.announce, owner, "run.finished", subject)


async def claimed(database: Database, holder: str, *, limit: int = 8) -> list[str]:
    deliveries = await database.write(rows.claim, holder, 60.0, limit, BOUNDS)
    return [delivery.id for delivery in deliveries]


async def executed(database: Database, statement: str) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text(statement))

    await database.write(work)


async def states(database: Database, name: str) -> list[str]:
    page = await database.read(rows.deliveries_of, f"wh_{name}", limit=100)
    return [row.state for row in page.data]


async def test_an_event_is_leased_to_one_daemon_until_its_lease_expires(database: Database) -> None:
    await added(database, hook("a"))
    await announced(database, "run_1")
    [event] = await claimed(database, "first")
    assert await claimed(database, "second") == []
    assert await database.read(rows.seconds_to_next) is None
    await executed(database, "update webhook_deliveries set lease_until = 1")
    assert await database.read(rows.seconds_to_next) == 0
    assert await claimed(database, "second") == [event]
    await database.write(rows.settle, event, "first", DELIVERED)
    assert await states(database, "a") == ["pending"], "what the first one says no longer counts"
    await database.write(rows.settle, event, "second", DELIVERED)
    assert await states(database, "a") == ["delivered"]
    row = await database.read(rows.delivery, event)
    assert row is not None
    assert (row.attempts, row.last_status) == (2, 200)


async def test_a_retried_event_is_due_only_after_its_delay(database: Database) -> None:
    await added(database, hook("a"))
    await announced(database, "run_1")
    [event] = await claimed(database, "first")
    await database.write(
        rows.settle, event, "first", DeliveryOutcome(delivered=False, error="no", retry_s=900)
    )
    assert await claimed(database, "first") == []
    coming = await database.read(rows.seconds_to_next)
    assert coming is not None
    assert 0 < coming <= 900
    assert await database.write(rows.send_again, event)
    assert await claimed(database, "first") == [event]


async def test_concurrent_deliveries_per_webhook_and_owner_are_limited_across_daemons(
    database: Database,
) -> None:
    await added(database, hook("a"), hook("b"), hook("c", "key_two"))
    await announced(database, *(f"run_{number}" for number in range(3)))
    await announced(database, *(f"run_{number}" for number in range(3)), owner="key_two")
    assert len(await claimed(database, "first", limit=1)) == 1
    await claimed(database, "second")

    def leased(connection: Connection) -> dict[str, int]:
        query = "select webhook_id, count(*) from webhook_deliveries where lease_owner is not null group by webhook_id"
        return {row[0]: row[1] for row in connection.execute(text(query))}

    lease_counts = await database.read(leased)
    assert lease_counts["wh_a"] + lease_counts["wh_b"] == 3
    assert max(lease_counts.values()) == 2
    assert lease_counts["wh_c"] == 2
    assert await claimed(database, "third") == []
    await database.write(rows.release_all, "first")
    assert len(await claimed(database, "third")) == 4


async def test_unwanted_or_rolled_back_events_are_not_stored(
    database: Database,
) -> None:
    await announced(database, "run_0")
    await added(database, hook("a", events=["run.failed"]), hook("b", "key_two"))
    await announced(database, "run_1")
    await database.write(rows.announce, None, "run.finished", "run_2")

    def cut_off(connection: Connection) -> None:
        rows.announce(connection, "key_two", "run.finished", "run_3")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await database.write(cut_off)
    assert await states(database, "a") + await states(database, "b") == []


async def test_a_disabled_webhook_is_sent_nothing_and_its_events_have_failed(database: Database) -> None:
    await added(database, hook("a"))
    await announced(database, "run_1")
    await database.write(rows.disable, "wh_a", "It is gone.")
    assert await states(database, "a") == ["failed"]
    await announced(database, "run_2")
    assert await states(database, "a") == ["failed"]
    assert not await database.read(rows.any_used)
    await database.write(rows.change, "wh_a", {})
    await announced(database, "run_3")
    assert await states(database, "a") == ["pending", "failed"]
    await database.write(rows.remove, "wh_a")
    assert await states(database, "a") == []


async def test_a_webhook_is_disabled_only_if_its_address_is_unchanged(database: Database) -> None:
    row = hook("a")
    await added(database, row)
    await announced(database, "run_1")
    await database.write(rows.change, row.id, {"url": "https://example.org"})
    await database.write(rows.disable, row.id, "It is gone.", row.url)
    assert await states(database, "a") == ["pending"]
    await database.write(rows.disable, row.id, "It is gone.", "https://example.org")
    assert await states(database, "a") == ["failed"]


async def test_old_deliveries_are_deleted_and_pending_ones_stay(database: Database) -> None:
    await added(database, hook("a"))
    await announced(database, "run_1", "run_2")
    first, _second = await claimed(database, "first")
    await database.write(rows.settle, first, "first", DELIVERED)
    later = time.time() + 60
    assert await database.read(rows.count_old, later) == 1
    assert await database.write(rows.forget, later, 10) == 1
    assert await states(database, "a") == ["pending"]


async def test_a_rotation_keeps_the_previous_secret_only_until_it_expires(database: Database) -> None:
    row = hook("a")
    await added(database, row)
    await announced(database, "run_1", "run_2")
    await database.write(rows.rotate, row.id, "whsec_Qg==", 600.0)
    [delivery] = await database.write(rows.claim, "first", 60.0, 1, BOUNDS)
    assert list(delivery.secrets) == ["whsec_Qg==", row.secret]
    assert row.secret not in repr(delivery)
    await executed(database, "update webhooks set previous_until = 1")
    [two] = await database.write(rows.claim, "first", 60.0, 1, BOUNDS)
    assert list(two.secrets) == ["whsec_Qg=="]


async def test_of_two_rotations_at_once_the_second_keeps_the_secret_of_the_first(database: Database) -> None:
    row = hook("a")
    await added(database, row)
    await announced(database, "run_1")
    for secret in ("whsec_Qg==", "whsec_Qw=="):
        await database.write(rows.rotate, row.id, secret, 600.0)
    [delivery] = await database.write(rows.claim, "first", 60.0, 1, BOUNDS)
    assert list(delivery.secrets) == ["whsec_Qw==", "whsec_Qg=="]
