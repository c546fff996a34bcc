"""Webhooks with OpenAI's own client and a real receiver: created, tested, rotated; sent, retried, refused, disabled."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types.webhooks import WebhookEndpointWithSecret
from sqlalchemy import Connection, text
from tests.api_server import ApiServer, api_server
from tests.server.features.webhooks.receiver import Message, Receiver, receiving

from portico.errors import InvalidRequest
from portico.webhooks import verify_webhook
from portico_server.db import webhooks as rows
from portico_server.db.database import after_commit
from portico_server.features.webhooks import webhooks as service
from portico_server.features.webhooks.delivery import RETRY_DELAYS_S
from portico_server.models.spec import ModelSpec

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENDS: Any = ["run.finished", "run.failed"]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as webhook_receiver:
        yield webhook_receiver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    folder = tmp_path_factory.mktemp("webhooks")
    async with api_server(folder, require_key=True, tool_hosts=f"127.0.0.1:{receiver.port}") as server:
        yield server


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A key with OpenAI's client and the messages of its webhooks."""

    id: str
    openai: AsyncOpenAI
    secret: str
    served: ApiServer

    async def hook(self, url: str, *, events: Any = ENDS) -> WebhookEndpointWithSecret:
        return await self.openai.webhooks.create(name="mine", url=url, event_types=events)

    async def announce(self, event_type: str = "run.finished", subject: str = "run_1") -> None:
        """Emit the event that a subject has ended."""
        await self.served.services.database.write(rows.announce, self.id, event_type, subject)

    async def native(self, method: str, path: str) -> Any:
        headers = {"authorization": f"Bearer {self.secret}"}
        answer = await self.served.client.request(method, f"/api/webhooks/{path}", headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def deliveries(self, hook: str) -> list[dict[str, Any]]:
        """Return the delivery journal once nothing is being sent."""
        await self.served.services.features.get(
            "webhooks", service.WebhookService
        ).sending.wait_for_outcomes()
        delivery_rows: list[dict[str, Any]] = (await self.native("GET", f"{hook}/deliveries"))["data"]
        return delivery_rows

    async def due(self) -> None:
        """Advance the time until the next attempts."""

        def make(connection: Connection) -> None:
            connection.execute(text("update webhook_deliveries set next_at = 0 where state = 'pending'"))
            after_commit(connection, rows.TOPIC)

        await self.served.services.database.write(make)


Join = Callable[..., Any]


@pytest_asyncio.fixture(loop_scope="module")
async def join(served: ApiServer) -> AsyncIterator[Join]:
    """Yield a function that creates separate keys for a test."""
    clients: list[AsyncOpenAI] = []

    async def key(*scopes: str) -> Subscriber:
        row, secret = await served.auth.create("subscriber", scopes or ("chat",))
        client = AsyncOpenAI(
            base_url=f"{served.url}/v1", api_key=secret, max_retries=0, _strict_response_validation=True
        )
        clients.append(client)
        return Subscriber(row.id, client, secret, served)

    yield key
    for client in clients:
        await client.close()


def unwrapped(message: Message, secret: str) -> Any:
    """Return the event of a message, unwrapped by OpenAI's client and by ours."""
    with openai.OpenAI(api_key="unused") as client:
        event = client.webhooks.unwrap(message.body, message.headers, secret=secret)
    ours = verify_webhook(message.body, message.headers, secret)
    assert (ours.id, ours.type, ours.data["id"]) == (event.id, event.type, event.data.id)  # type: ignore[union-attr]
    return event


def refused(error: pytest.ExceptionInfo[openai.APIStatusError]) -> tuple[int, str | None, str | None]:
    return error.value.status_code, error.value.code, error.value.param


@pytest.mark.conformance("OpenAI", "Webhooks", "openai")
async def test_the_official_client_makes_lists_changes_and_deletes(join: Join, receiver: Receiver) -> None:
    key = await join()
    first = await key.hook(receiver.url("/kept"), events=["batch.completed", "response.completed"])
    assert first.signing_secret.startswith("whsec_")
    assert first.signing_secret_hint is not None
    assert first.signing_secret_hint.endswith(first.signing_secret[-4:])
    assert first.event_types == ["response.completed", "batch.completed"]
    second = await key.hook(receiver.url("/second"))
    page = await key.openai.webhooks.list(limit=1)
    assert [webhook.id async for webhook in page] == [second.id, first.id]
    assert (await key.openai.webhooks.event_types.list()).data == list(rows.EVENT_TYPES)
    updated_webhook = await key.openai.webhooks.update(first.id, name="other", event_types=["batch.failed"])
    assert (updated_webhook.name, updated_webhook.event_types, updated_webhook.url) == (
        "other",
        ["batch.failed"],
        first.url,
    )
    assert await key.openai.webhooks.update(first.id, name="other") == updated_webhook
    assert await key.openai.webhooks.update(first.id) == updated_webhook
    assert await key.openai.webhooks.retrieve(first.id) == updated_webhook
    assert (await key.openai.webhooks.delete(first.id)).deleted
    with pytest.raises(openai.NotFoundError) as error:
        await key.openai.webhooks.retrieve(first.id)
    assert refused(error) == (404, "webhook_not_found", "webhook_endpoint_id")


async def test_the_secret_is_shown_once_and_stands_in_no_log(
    join: Join, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = await join()
    hook = await key.hook(receiver.url("/quiet"))
    receiver.answers["/quiet"] = [500]
    await key.announce()
    await receiver.next("/quiet")
    answers = [
        (await key.openai.webhooks.with_raw_response.retrieve(hook.id)).text,
        (await key.openai.webhooks.with_raw_response.list()).text,
        (await key.openai.webhooks.with_raw_response.update(hook.id, name="b")).text,
        json.dumps(await key.deliveries(hook.id)),
    ]
    assert not any(hook.signing_secret in output for output in (*answers, caplog.text))
    row = await key.served.services.database.read(rows.get, hook.id)
    assert hook.signing_secret not in repr(row)


async def test_a_test_is_signed_and_after_a_rotation_by_both_secrets_for_a_day(
    join: Join, receiver: Receiver
) -> None:
    key = await join()
    hook = await key.hook(receiver.url("/tried"))

    async def tried() -> Message:
        done = await key.openai.webhooks.test(hook.id, event_type="batch.completed")
        assert (done.status_code, done.success, done.webhook_endpoint_id) == (200, True, hook.id)
        return await receiver.next("/tried")

    message = await tried()
    event = unwrapped(message, hook.signing_secret)
    assert (event.type, event.object, event.id) == ("batch.completed", "event", message.id)
    rotated_webhook = await key.openai.webhooks.rotate_secret(
        hook.id, keep_old_secret_active_for_24_hours=True
    )
    assert rotated_webhook.signing_secret != hook.signing_secret
    signed_message = await tried()
    assert len(signed_message.headers["webhook-signature"].split()) == 2
    assert unwrapped(signed_message, hook.signing_secret) == unwrapped(
        signed_message, rotated_webhook.signing_secret
    )
    last = await key.openai.webhooks.rotate_secret(hook.id)
    alone = await tried()
    unwrapped(alone, last.signing_secret)
    for old in (hook.signing_secret, rotated_webhook.signing_secret):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            unwrapped(alone, old)
        with pytest.raises(InvalidRequest, match="No signature matches the secret"):
            verify_webhook(alone.body, alone.headers, old)
    assert await key.deliveries(hook.id) == [], "a test is not an event"


async def test_the_verification_helper_refuses_changed_old_and_headerless_messages(
    join: Join, receiver: Receiver
) -> None:
    key = await join()
    hook = await key.hook(receiver.url("/helped"))
    await key.openai.webhooks.test(hook.id, event_type="run.finished")  # type: ignore[arg-type]
    message = await receiver.next("/helped")
    await key.openai.webhooks.test(hook.id, event_type="run.finished")  # type: ignore[arg-type]
    second_message = await receiver.next("/helped")
    secret, signature = hook.signing_secret, message.headers["webhook-signature"]
    assert verify_webhook(message.body.decode(), message.headers, secret).type == "run.finished"
    late = {**message.headers, "webhook-timestamp": "1000000000"}
    lacking = {name: value for name, value in message.headers.items() if name != "webhook-id"}
    for body, headers, reason in (
        (message.body + b" ", message.headers, "No signature matches the secret"),
        (message.body, {**message.headers, "webhook-id": "evt_2"}, "No signature matches the secret"),
        (
            message.body,
            {**message.headers, "webhook-signature": "v1,? v2,x"},
            "No signature matches the secret",
        ),
        (message.body, {**message.headers, "webhook-id": "\udcff"}, "No signature matches the secret"),
        (
            message.body,
            {**message.headers, "webhook-signature": "v1,\udcff"},
            "No signature matches the secret",
        ),
        (message.body, {**message.headers, "webhook-signature": ""}, "No signature matches the secret"),
        (message.body, {**message.headers, "webhook-signature": "v1," * 10_000}, "No signature matches"),
        (message.body, {**message.headers, "webhook-signature": signature.upper()}, "No signature matches"),
        (
            message.body,
            {**message.headers, "webhook-signature": f"v1a{signature[2:]}"},
            "No signature matches",
        ),
        (b"", message.headers, "No signature matches the secret"),
        ("\udcff", message.headers, "No signature matches the secret"),
        (second_message.body, message.headers, "No signature matches the secret"),
        (message.body, second_message.headers, "No signature matches the secret"),
        (message.body, late, "older than"),
        (message.body, {**message.headers, "webhook-timestamp": "9" * 12}, "ahead of the local clock"),
        (message.body, {**message.headers, "webhook-timestamp": "9" * 5_000}, "not a number"),
        (message.body, {**message.headers, "webhook-timestamp": "\u0661"}, "not a number"),
        (message.body, {**message.headers, "webhook-timestamp": "-1"}, "not a number"),
        (message.body, {**message.headers, "webhook-timestamp": "soon"}, "not a number"),
        (message.body, lacking, "'webhook-id' is missing"),
    ):
        with pytest.raises(InvalidRequest, match=reason) as error:
            verify_webhook(body, headers, secret)
        assert error.value.code == "invalid_signature"


async def test_an_event_is_sent_again_after_an_error_under_the_same_id(
    join: Join, receiver: Receiver
) -> None:
    key = await join()
    hook = await key.hook(receiver.url("/again"))
    receiver.answers["/again"] = [500]
    await key.announce(subject="run_again")
    first = await receiver.next("/again")
    [delivery] = await key.deliveries(hook.id)
    assert (delivery["state"], delivery["attempts"], delivery["last_status"]) == ("pending", 1, 500)
    assert "HTTP 500" in delivery["last_error"]
    assert delivery["next_at"] > delivery["created_at"]
    await key.due()
    second = await receiver.next("/again")
    assert (second.id, second.body) == (first.id, first.body)
    assert unwrapped(second, hook.signing_secret).data.id == "run_again"
    [done] = await key.deliveries(hook.id)
    assert (done["state"], done["attempts"], done["last_status"]) == ("delivered", 2, 200)
    assert done["next_at"] is None
    assert done["payload"]["data"] == {"id": "run_again"}
    again = await key.native("POST", f"{hook.id}/deliveries/{done['id']}/redeliver")
    assert again["state"] == "pending"
    assert (await receiver.next("/again")).id == first.id


async def test_an_event_fails_after_its_last_attempt_and_can_be_sent_by_hand(
    join: Join, receiver: Receiver
) -> None:
    key = await join()
    hook = await key.hook(receiver.url("/never"))
    receiver.answers["/never"] = [503] * (len(RETRY_DELAYS_S) + 1)
    await key.announce()
    for _attempt in RETRY_DELAYS_S:
        await receiver.next("/never")
        [pending_delivery] = await key.deliveries(hook.id)
        assert pending_delivery["state"] == "pending"
        await key.due()
    await receiver.next("/never")
    [failed_delivery] = await key.deliveries(hook.id)
    assert (failed_delivery["state"], failed_delivery["attempts"]) == ("failed", len(RETRY_DELAYS_S) + 1)
    await key.native("POST", f"{hook.id}/deliveries/{failed_delivery['id']}/redeliver")
    await receiver.next("/never")
    [done] = await key.deliveries(hook.id)
    assert (done["state"], done["attempts"]) == ("delivered", 1)


async def test_410_disables_a_webhook_until_it_is_updated(join: Join, receiver: Receiver) -> None:
    key = await join()
    hook = await key.hook(receiver.url("/gone"))
    receiver.answers["/gone"] = [410]
    await key.announce()
    await receiver.next("/gone")
    [failed_delivery] = await key.deliveries(hook.id)
    assert (failed_delivery["state"], failed_delivery["last_status"]) == ("failed", 410)
    assert "HTTP 410" in (await key.openai.webhooks.retrieve(hook.id)).disabled  # type: ignore[attr-defined]
    await key.announce(subject="run_2")
    assert len(await key.deliveries(hook.id)) == 1, "nothing is written for it"
    path = f"/api/webhooks/{hook.id}/deliveries/{failed_delivery['id']}/redeliver"
    answer = await key.served.client.post(path, headers={"authorization": f"Bearer {key.secret}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "webhook_disabled")
    updated_webhook = await key.openai.webhooks.update(hook.id, url=hook.url)
    assert updated_webhook.disabled is None  # type: ignore[attr-defined]
    await key.announce(subject="run_3")
    assert unwrapped(await receiver.next("/gone"), hook.signing_secret).data.id == "run_3"


async def test_410_from_an_address_that_was_replaced_disables_nothing(join: Join, receiver: Receiver) -> None:
    key = await join()
    hook = await key.hook(receiver.url("/hang/gone"))
    receiver.answers["/hang/gone"] = [410]
    await key.announce()
    await receiver.next("/hang/gone")
    await key.openai.webhooks.update(hook.id, url=receiver.url("/replaced"))
    receiver.release.set()
    assert [delivery["last_status"] for delivery in await key.deliveries(hook.id)] == [410]
    receiver.release.clear()
    assert (await key.openai.webhooks.retrieve(hook.id)).disabled is None  # type: ignore[attr-defined]
    await key.announce(subject="run_2")
    assert unwrapped(await receiver.next("/replaced"), hook.signing_secret).data.id == "run_2"


async def test_the_owner_of_a_webhook_can_disable_and_enable_it(join: Join, receiver: Receiver) -> None:
    key = await join()
    hook = await key.hook(receiver.url("/paused"))
    path = f"/v1/webhook_endpoints/{hook.id}"
    headers = {"authorization": f"Bearer {key.secret}"}

    async def change(**values: Any) -> str | None:
        answer = await key.served.client.post(path, json=values, headers=headers)
        disabled: str | None = answer.json()["disabled"]
        return disabled

    assert "owner disabled" in (await change(disabled=True) or "")
    await key.announce()
    assert await key.deliveries(hook.id) == []
    assert await change(name="renamed", disabled=True) is not None
    assert await change() is not None, "nothing was changed"
    assert await change(disabled=False) is None
    await key.announce(subject="run_2")
    assert unwrapped(await receiver.next("/paused"), hook.signing_secret).data.id == "run_2"


async def test_a_receiver_that_hangs_holds_up_nobody_else(join: Join, receiver: Receiver) -> None:
    slow, quick = await join(), await join()
    stuck = await slow.hook(receiver.url("/hang"))
    second_webhook = await slow.hook(receiver.url("/beside"))
    hook = await quick.hook(receiver.url("/quick"))
    for number in range(4):
        await slow.announce(subject=f"run_{number}")
    messages = [await receiver.next("/hang"), await receiver.next("/hang")]
    assert messages[0].id != messages[1].id
    assert {(await receiver.next("/beside")).id for _ in range(4)}.isdisjoint(
        {entry.id for entry in messages}
    )
    await quick.announce()
    assert unwrapped(await receiver.next("/quick"), hook.signing_secret)
    deliveries = (await slow.native("GET", f"{stuck.id}/deliveries"))["data"]
    assert (
        sorted((entry["state"], entry["attempts"]) for entry in deliveries)
        == [("pending", 0)] * 2 + [("pending", 1)] * 2
    )
    receiver.release.set()
    await receiver.next("/hang")
    await receiver.next("/hang")
    assert {entry["state"] for entry in await slow.deliveries(second_webhook.id)} == {"delivered"}
    receiver.release.clear()


async def test_a_redirect_is_not_followed(join: Join, receiver: Receiver) -> None:
    key = await join()
    hook = await key.hook(receiver.url("/redirect"))
    assert (await key.openai.webhooks.test(hook.id, event_type="batch.failed")).status_code == 307
    await receiver.next("/redirect")
    await key.announce()
    await receiver.next("/redirect")
    [delivery] = await key.deliveries(hook.id)
    assert (delivery["state"], delivery["last_status"]) == ("pending", 307)
    assert "Redirects are not followed" in delivery["last_error"]
    assert receiver.queue("/moved").empty()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://10.1.2.3/hook", "address_refused"),
        ("https://[::ffff:127.0.0.1]/hook", "address_refused"),
        ("http://example.com/hook", "insecure_url"),
        ("ftp://example.com/hook", "invalid_url"),
        ("https://me:word@example.com/hook", "invalid_url"),
        ("https://example.com/a\r\nb: c", "invalid_value"),
        ("https://example.com/" + "a" * 2_048, None),
    ],
)
async def test_an_invalid_webhook_address_is_refused(join: Join, url: str, code: str | None) -> None:
    key = await join()
    with pytest.raises(openai.BadRequestError) as error:
        await key.hook(url)
    assert error.value.param == "url"
    if code is not None:
        assert error.value.code == code


async def test_a_name_that_means_a_private_address_is_refused_when_it_is_sent(
    join: Join, receiver: Receiver
) -> None:
    key = await join()
    hook = await key.hook(f"https://localhost:{receiver.port}/private")
    with pytest.raises(openai.BadRequestError) as error:
        await key.openai.webhooks.test(hook.id, event_type="batch.failed")
    assert refused(error) == (400, "webhook_unreachable", "url")
    assert "private, local or reserved" in error.value.message
    await key.announce()
    [delivery] = await key.deliveries(hook.id)
    assert delivery["state"] == "pending"
    assert "private, local or reserved" in delivery["last_error"]
    assert receiver.queue("/private").empty()


async def test_an_unknown_event_type_is_refused_with_what_was_meant(join: Join, receiver: Receiver) -> None:
    key = await join()
    with pytest.raises(openai.BadRequestError, match=r"Did you mean 'batch\.completed'") as error:
        await key.hook(receiver.url("/x"), events=["batch.failed", "batch.complete"])
    assert refused(error) == (400, "unknown_event_type", "event_types[1]")
    hook = await key.hook(receiver.url("/x"))
    with pytest.raises(openai.BadRequestError) as error:
        await key.openai.webhooks.test(hook.id, event_type="video.completed")
    assert refused(error) == (400, "unknown_event_type", "event_type")
    with pytest.raises(openai.BadRequestError) as error:
        await key.hook(receiver.url("/x"), events=[])
    assert error.value.param == "event_types"


async def test_webhooks_and_events_of_another_key_are_hidden(join: Join, receiver: Receiver) -> None:
    key, second_subscriber = await join(), await join()
    hook = await key.hook(receiver.url("/mine"))
    await second_subscriber.hook(receiver.url("/others"))
    assert [webhook.id async for webhook in await key.openai.webhooks.list()] == [hook.id]
    for call in (
        second_subscriber.openai.webhooks.retrieve(hook.id),
        second_subscriber.openai.webhooks.update(hook.id, name="x"),
        second_subscriber.openai.webhooks.rotate_secret(hook.id),
        second_subscriber.openai.webhooks.test(hook.id, event_type="batch.failed"),
        second_subscriber.openai.webhooks.delete(hook.id),
        second_subscriber.openai.webhooks.list(after=hook.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await call
    await key.announce()
    assert unwrapped(await receiver.next("/mine"), hook.signing_secret)
    await second_subscriber.served.services.features.get(
        "webhooks", service.WebhookService
    ).sending.wait_for_outcomes()
    assert receiver.queue("/others").empty()


async def test_the_numbers_of_webhooks_and_pending_events_are_limited(
    join: Join, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await join()
    monkeypatch.setattr(service, "MAX_WEBHOOKS", 2)
    monkeypatch.setattr(rows, "MAX_PENDING_EVENTS", 1)
    hook = await key.hook(receiver.url("/hang-bound"))
    await key.hook(receiver.url("/x"), events=["batch.failed"])
    with pytest.raises(openai.ConflictError) as error:
        await key.hook(receiver.url("/x"))
    assert error.value.code == "too_many_webhooks"
    await key.announce(subject="run_1")
    await receiver.next("/hang-bound")
    await key.announce(subject="run_2")
    beyond, first = (await key.native("GET", f"{hook.id}/deliveries"))["data"]
    assert (first["state"], beyond["state"]) == ("pending", "failed")
    assert "events were already pending" in beyond["last_error"]
    path = f"/api/webhooks/{hook.id}/deliveries/{beyond['id']}/redeliver"
    answer = await key.served.client.post(path, headers={"authorization": f"Bearer {key.secret}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "too_many_events")
    receiver.release.set()
    await key.deliveries(hook.id)
    receiver.release.clear()


async def test_a_revoked_key_receives_no_more_webhook_events(join: Join, receiver: Receiver) -> None:
    key, admin = await join(), await join("admin")
    hook = await key.hook(receiver.url("/revoked"))
    await key.served.auth.revoke(key.id)
    await key.announce()
    [failed_delivery] = await admin.deliveries(hook.id)
    assert failed_delivery["state"] == "failed"
    assert "revoked" in (await admin.openai.webhooks.retrieve(hook.id)).disabled  # type: ignore[attr-defined]
    assert receiver.queue("/revoked").empty()


async def test_a_response_whose_run_was_cancelled_elsewhere_is_announced_without_polling(
    join: Join, receiver: Receiver
) -> None:
    key = await join()
    services = key.served.services
    script = {"replies": [{"match": ".", "content": "one two", "hang": 1}]}
    await services.models.add(ModelSpec("stuck", "fake://", parameters={"script": script}))
    hook = await key.hook(receiver.url("/deserted"), events=["response.cancelled"])
    raw = await key.openai.responses.with_raw_response.create(model="stuck", input="x", background=True)
    response, headers = raw.parse(), {"authorization": f"Bearer {key.secret}"}
    path = f"/api/runs/{raw.headers['x-portico-run']}/cancel"
    assert (await key.served.client.post(path, headers=headers)).json()["status"] == "cancelled"
    assert await key.deliveries(hook.id) == []
    await services.features.settle()
    event = unwrapped(await receiver.next("/deserted"), hook.signing_secret)
    assert (event.type, event.data.id) == ("response.cancelled", response.id)
    await services.features.settle()
    assert len(await key.deliveries(hook.id)) == 1


async def test_a_large_answer_is_not_read_to_its_end(join: Join, tmp_path: Path) -> None:
    """The rest never arrives; the status alone decides."""
    done = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}}")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 70_000)
        await writer.drain()
        await reader.read()  # until the peer disconnects
        writer.close()
        done.set()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, api_server(tmp_path, tool_hosts="127.0.0.1") as daemon:
        async with AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="portico", max_retries=0) as client:
            hook = await client.webhooks.create(
                name="large", url=f"http://127.0.0.1:{port}/", event_types=["batch.failed"]
            )
            assert (await client.webhooks.test(hook.id, event_type="batch.failed")).status_code == 200
        await done.wait()
