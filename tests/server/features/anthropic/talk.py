"""Shortcuts for sending a Messages request and reading the answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
from tests.api_server import ApiServer

HELLO = [{"role": "user", "content": "Hello"}]


async def ask(served: ApiServer, model: str = "m", path: str = "", **fields: Any) -> httpx.Response:
    body = {"model": model, "max_tokens": 9, "messages": HELLO, **fields}
    return await served.client.post(f"/v1/messages{path}", json=body)


def frames(text: str) -> list[dict[str, Any]]:
    """Return the documents of a stream's events."""
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]


def refused(response: httpx.Response) -> tuple[int, str]:
    """Return the status and type of an error, after checking its format."""
    document = response.json()
    assert document["type"] == "error"
    assert document["error"]["message"]
    assert document["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]
    return response.status_code, document["error"]["type"]
