"""Receivers that attack the sender: every attempt ends, is repeated a bounded number of times, and shows no secret."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from tests.api_server import ApiServer, api_server

from portico_server.db import webhooks as rows
from portico_server.features.webhooks import delivery
from portico_server.features.webhooks.webhooks import WebhookService

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH: Final = "/secret-path-of-a-chat-room"
OK: Final = b"HTTP/1.1 200 OK\r\n"
MOVED: Final = "http://127.0.0.1:{port}/moved"


def head(status: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} X", *headers, "content-length: 0", "", ""]).encode()


ANSWERS: Final[dict[str, tuple[list[bytes], str]]] = {
    "nothing": ([], "pending"),
    "no HTTP": ([b"220 mail.example ESMTP\r\n"], "pending"),
    "a status of letters": ([b"HTTP/1.1 OK 200\r\n\r\n"], "pending"),
    "a status beyond": ([b"HTTP/1.1 99999 X\r\n\r\n"], "pending"),
    "a negative length": ([OK, b"content-length: -1\r\n\r\nabc"], "pending"),
    "two lengths": ([OK, b"content-length: 1\r\ncontent-length: 2\r\n\r\nab"], "pending"),
    "a header without an end": ([OK, b"x: " + b"y" * 100_000], "pending"),
    "headers without an end": ([OK, b"x: y\r\n" * 100_000], "pending"),
    "a chunk of a wrong size": ([OK, b"transfer-encoding: chunked\r\n\r\nzz\r\nab"], "pending"),
    "a chunk beyond": ([OK, b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nab"], "pending"),
    "continue without an end": ([b"HTTP/1.1 100 Continue\r\n\r\n"] * 10_000, "pending"),
    "another protocol": ([head(101, "upgrade: websocket", "connection: upgrade")], "pending"),
    "a redirect": ([head(301, f"location: {MOVED}")], "pending"),
    "a redirect that repeats the body": ([head(308, f"location: {MOVED}")], "pending"),
    "a redirect to a file": ([head(302, "location: file:///etc/passwd")], "pending"),
    "a redirect to metadata": ([head(303, "location: http://169.254.169.254/latest")], "pending"),
    "a wait of years": ([head(503, "retry-after: 999999999999999999999")], "pending"),
    "a negative wait": ([head(503, "retry-after: -5")], "pending"),
    "a wait of no number": ([head(429, "retry-after: nan")], "pending"),
    "a wait until the year 9999": ([head(429, "retry-after: Fri, 31 Dec 9999 23:59:59 GMT")], "pending"),
    "a bomb": ([OK, b"content-encoding: gzip\r\n\r\n", gzip.compress(b"\0" * 50_000_000)], "delivered"),
    "a body without an end": ([OK, b"\r\n", *[b"x" * 65_536] * 1_000], "delivered"),
    "cookies": ([OK, b"set-cookie: a=b\r\ncontent-length: 0\r\n\r\n"], "delivered"),
}
"""What a receiver sends before it waits, and the state of the event after the attempt."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    folder = tmp_path_factory.mktemp("webhooks")
    async with api_server(folder, require_key=True, tool_hosts="127.0.0.1") as server:
        yield server


@pytest.mark.parametrize("case", ANSWERS)
async def test_a_delivery_to_a_hostile_receiver_ends_and_leaks_no_secrets(
    served: ApiServer, case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocks, state = ANSWERS[case]
    monkeypatch.setattr(delivery, "TIMEOUT_S", 10.0 if state == "delivered" else 0.5)
    caplog.set_level(logging.DEBUG, "portico_server")
    request_lines: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            request_lines.append(await reader.readuntil(b"\r\n"))
            for block in blocks:
                writer.write(block.replace(b"{port}", str(port).encode()))
                await writer.drain()
            await reader.read()  # until the sender disconnects
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    row, secret = await served.auth.create("subscriber", ("chat",))
    async with (
        server,
        httpx.AsyncClient(base_url=served.url, headers={"authorization": f"Bearer {secret}"}) as client,
    ):
        body = {"name": "mine", "url": f"http://127.0.0.1:{port}{PATH}", "event_types": ["run.failed"]}
        hook: dict[str, Any] = (
            (await client.post("/v1/webhook_endpoints", json=body)).raise_for_status().json()
        )
        await served.services.database.write(rows.announce, row.id, "run.failed", "run_1")
        await served.services.features.get("webhooks", WebhookService).sending.wait_for_outcomes()
        [event] = (await client.get(f"/api/webhooks/{hook['id']}/deliveries")).json()["data"]
        assert (event["state"], event["attempts"]) == (state, 1), event
        if state == "pending":
            wait = event["next_at"] - time.time()
            assert wait <= delivery.MAX_RETRY_AFTER_S * (1 + delivery.MAX_JITTER_SHARE)
        assert request_lines == [f"POST {PATH} HTTP/1.1\r\n".encode()], (
            "one request, and none to another address"
        )
        visible_text = json.dumps(event) + caplog.text
        assert hook["signing_secret"] not in visible_text and PATH not in caplog.text
        assert "Traceback" not in caplog.text
        await client.delete(f"/v1/webhook_endpoints/{hook['id']}")
