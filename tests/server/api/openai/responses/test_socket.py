"""``/v1/responses`` as a WebSocket, using OpenAI's own client where it can express the case."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from openai.resources.responses.responses import ResponsesConnection
from tests.api_server import api_server
from tests.daemon import Daemon
from tests.server.api.openai.conftest import bearer, opened, secret
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

ENDS = ("response.completed", "response.incomplete", "error")


def turn(connection: ResponsesConnection, **fields: Any) -> list[Any]:
    """Return the events of one response."""
    connection.send({"type": "response.create", "model": "echo", **fields})  # type: ignore[typeddict-item]
    events = [connection.recv()]
    while events[-1].type not in ENDS:
        events.append(connection.recv())
    return events


def said(text: str) -> list[dict[str, Any]]:
    return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]


def asked(connection: ClientConnection, message: str | bytes | Iterator[bytes]) -> dict[str, Any]:
    connection.send(message)
    reply: dict[str, Any] = json.loads(connection.recv(20))
    return reply


@pytest.mark.conformance("OpenAI", "Responses: WebSocket", "openai")
def test_responses_follow_each_other_on_one_connection(as_key: Callable[[str], OpenAI]) -> None:
    with as_key("one").responses.connect() as connection:
        first, second = turn(connection, input="one"), turn(connection, input="two", stream_id="lane")
    assert [event.type for event in first[:2]] == ["response.created", "response.in_progress"]
    assert [event.sequence_number for event in first] == list(range(len(first)))
    assert (first[-1].response.output_text, second[-1].response.output_text) == ("one", "two")
    assert {event.stream_id for event in second} == {"lane"}


@pytest.mark.parametrize("store", [True, False])
def test_a_response_is_continued_on_the_connection(as_key: Callable[[str], OpenAI], store: bool) -> None:
    client = as_key("one")
    with client.responses.connect() as connection:
        first = turn(connection, input="ship", store=store)[-1].response
        second = turn(connection, input=said("and"), previous_response_id=first.id, store=store)[-1].response
        third = turn(connection, input=said("crew"), previous_response_id=second.id, store=True)[-1].response
    assert third.previous_response_id == second.id
    assert third.usage.input_tokens > second.usage.input_tokens > first.usage.input_tokens
    # A stored response stands alone, even if the response it continued is not stored.
    later = client.responses.create(model="echo", input="port", previous_response_id=third.id)
    assert later.usage is not None and later.usage.input_tokens > third.usage.input_tokens


def test_after_a_reconnect_only_what_is_stored_is_continued(as_key: Callable[[str], OpenAI]) -> None:
    client = as_key("one")
    with client.responses.connect() as connection:
        stored_response = turn(connection, input="ship", store=True)[-1].response
        unstored_response = turn(connection, input="ship", store=False)[-1].response
    with client.responses.connect() as connection:
        assert (
            turn(connection, input="and", previous_response_id=stored_response.id)[-1].type
            == "response.completed"
        )
        error_event = turn(connection, input="and", previous_response_id=unstored_response.id)[-1]
    assert error_event.type == "error" and error_event.status == 404
    assert error_event.error.code == "previous_response_not_found"


def test_a_failed_continuation_drops_the_unstored_previous_response(as_key: Callable[[str], OpenAI]) -> None:
    with as_key("one").responses.connect() as connection:
        first = turn(connection, input="ship", store=False)[-1].response
        error_event = turn(connection, input="x", previous_response_id=first.id, temperature=9)[-1]
        assert (error_event.type, error_event.status, error_event.error.param) == (
            "error",
            400,
            "temperature",
        )
        next_event = turn(connection, input="and", previous_response_id=first.id)[-1]
        assert (next_event.type, next_event.error.code) == ("error", "previous_response_not_found")
        assert turn(connection, input="again")[-1].type == "response.completed"


def test_a_warm_up_says_nothing_and_can_be_continued(as_key: Callable[[str], OpenAI]) -> None:
    with as_key("one").responses.connect() as connection:
        warm = turn(connection, input="ship", generate=False, store=False)[-1].response
        assert warm.status == "completed" and warm.output == []
        response = turn(connection, input=said("port"), previous_response_id=warm.id)[-1].response
    assert response.output_text == "port" and response.usage.input_tokens == 2


def test_a_conversation_is_compacted_and_continued(as_key: Callable[[str], OpenAI]) -> None:
    with as_key("one").responses.connect() as connection:
        first = turn(connection, model="notary", input="word " * 200, store=False)[-1].response
        second = turn(
            connection,
            model="notary",
            input=said("What is the port?"),
            previous_response_id=first.id,
            context_management=[{"type": "compaction", "compact_threshold": 100}],
        )[-1].response
    assert [item.type for item in second.output] == ["compaction", "message"]


def test_invalid_messages_get_an_error_and_the_connection_stays_open(harbour: Daemon) -> None:
    with opened(harbour) as connection:
        for message, param in (
            ("{", None),
            ("[]", None),
            (b"{}", None),
            ("{}", "type"),
            ('{"type": "session.update"}', "type"),
            ('{"type": "response.create", "model": "echo", "input": "x", "background": true}', "background"),
            ('{"type": "response.create", "model": "echo", "input": "x", "generate": 1}', "generate"),
            ('{"type": "response.create", "model": "echo", "input": "x", "tempature": 1}', "tempature"),
        ):
            reply = asked(connection, message)
            assert (reply["type"], reply["status"]) == ("error", 400), message
            assert reply["error"]["param"] == param and reply["error"]["code"]
        assert asked(connection, '{"type": "response.create", "model": "echo", "input": "x"}')[
            "type"
        ].endswith("created")


def test_a_message_over_the_limit_closes_the_connection(harbour: Daemon) -> None:
    with opened(harbour) as connection, pytest.raises(ConnectionClosed):
        asked(connection, (b"x" for _ in range(5_000)))  # this many frames


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"Origin": "https://evil.example"}, "/v1/responses", 403),
        ({"Authorization": "Bearer pk-unknown"}, "/v1/responses", 401),
        ({}, "/v1/chat/completions", 404),
    ],
)
def test_a_refused_websocket_handshake_gets_an_http_error(
    harbour: Daemon, headers: dict[str, str], path: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as error_info, opened(harbour, path=path, **headers):
        pass
    assert error_info.value.response.status_code == status
    assert json.loads(error_info.value.response.body)["error"]["message"]


def test_a_key_that_is_revoked_loses_its_connections(harbour: Daemon) -> None:
    guest_key = httpx.post(
        f"{harbour.url}/api/keys", json={"name": "guest", "scopes": ["chat"]}, headers=bearer("boss")
    ).json()
    url = harbour.url.replace("http", "ws", 1) + "/v1/responses"
    with connect(
        url, additional_headers={"Authorization": f"Bearer {guest_key['key']}"}, proxy=None
    ) as connection:
        asked(connection, '{"type": "response.create", "model": "clever", "input": "hang"}')
        httpx.delete(f"{harbour.url}/api/keys/{guest_key['id']}", headers=bearer("boss")).raise_for_status()
        with pytest.raises(ConnectionClosed) as error_info:
            drain(connection)
    assert error_info.value.rcvd is not None and error_info.value.rcvd.code == 1008


def test_a_client_that_leaves_ends_its_response(harbour: Daemon) -> None:
    with opened(harbour, "two") as connection:
        asked(connection, '{"type": "response.create", "model": "frail", "input": "hang"}')
    while any(row["status"] == "running" and row["name"] == "frail" for row in runs(harbour)):
        pass
    assert any(row["status"] == "cancelled" and row["name"] == "frail" for row in runs(harbour))


def runs(harbour: Daemon) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = httpx.get(f"{harbour.url}/api/runs", headers=bearer("boss")).json()["data"]
    return rows


def drain(connection: ClientConnection) -> None:
    """Receive until the connection is closed, which raises an exception."""
    while True:
        connection.recv(20)


async def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    async with api_server(tmp_path, socket_idle_timeout=0.2) as api:
        async with connect_async(
            api.url.replace("http", "ws", 1) + "/v1/responses", proxy=None
        ) as connection:
            with pytest.raises(ConnectionClosed):
                await connection.recv()
        assert connection.close_code == 1000 and connection.close_reason == "idle for 0.2 s"


def test_the_hosts_of_other_sites_are_refused(harbour: Daemon) -> None:
    with pytest.raises(InvalidStatus) as error_info, opened(harbour, Host="evil.example"):
        pass
    assert error_info.value.response.status_code in (400, 403)
    assert secret("one") not in str(error_info.value)


INVALID_FRAMES = {
    "invalid UTF-8": b"\x81\x82\0\0\0\0\xff\xfe",
    "invalid UTF-8 in two frames": b"\x01\x81\0\0\0\0\xff\x80\x81\0\0\0\0\xff",
    "a reserved opcode": b"\x83\x80\0\0\0\0",
    "a reserved bit": b"\xc1\x81\0\0\0\0a",
    "no mask": b"\x81\x01a",
    "a continuation of nothing": b"\x80\x81\0\0\0\0a",
    "a message in a message": b"\x01\x81\0\0\0\0a\x81\x81\0\0\0\0a",
    "a ping in two frames": b"\x09\x81\0\0\0\0a",
    "a ping that is too long": b"\x89\xfe\x00\x7e\0\0\0\0" + b"a" * 126,
    "a message that is too long": b"\x81\xff\0\0\1\0\0\0\0\0\0\0\0\0",
    "a negative length": b"\x81\xff\xff" + b"\0" * 11,
    "a short close frame": b"\x88\x81\0\0\0\0a",
    "an invalid close code": b"\x88\x82\0\0\0\0\x03\xed",
    "a close reason in invalid UTF-8": b"\x88\x83\0\0\0\0\x03\xe8\xff",
}


def test_an_invalid_frame_closes_the_connection_and_writes_no_line_of_the_log(harbour: Daemon) -> None:
    log = harbour.home / "logs" / "daemon.log"
    place = httpx.URL(harbour.url)
    head = (
        f"GET /v1/responses HTTP/1.1\r\nHost: {place.host}:{place.port}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    with socket.create_connection((place.host, place.port or 0), timeout=60) as connection:
        connection.sendall(f"{head}\r\n".encode())
        assert b" 401 " in b"".join(iter(lambda: connection.recv(4096), b""))
    pending = b'{"type": "response.create", "model": "clever", "input": "hang"}'
    message = b"\x81" + bytes([0x80 | len(pending)]) + b"\0\0\0\0" + pending
    handshake = f"{head}Authorization: Bearer {secret('one')}\r\n\r\n".encode()
    for name, frame in INVALID_FRAMES.items():
        for first, second_part in (
            (handshake, frame),
            (handshake, message + frame),
            (handshake + frame, b""),
        ):
            with socket.create_connection((place.host, place.port or 0), timeout=60) as garbled:
                garbled.sendall(first)
                if second_part:
                    assert b" 101 " in garbled.recv(4096), name
                    garbled.sendall(second_part)
                answer = b"".join(iter(lambda: garbled.recv(4096), b""))
                assert b"keepalive ping timeout" not in answer, (name, answer)
    assert not any(word in log.read_text("utf-8") for word in ("uvicorn.error", "Traceback"))


@pytest.mark.slow
def test_a_chain_of_unstored_responses_over_the_limit_is_refused(as_key: Callable[[str], OpenAI]) -> None:
    items = said("a") * 6_000
    with as_key("one").responses.connect() as connection:
        first = turn(connection, input=items, store=False)[-1].response
        second = turn(connection, input=items, store=False, previous_response_id=first.id)[-1].response
        error_event = turn(connection, input="and", previous_response_id=second.id)[-1]
        assert (error_event.status, error_event.error.code) == (400, "context_length_exceeded")
        assert error_event.error.param == "previous_response_id"
        assert turn(connection, input="begin")[-1].response.output_text == "begin"
