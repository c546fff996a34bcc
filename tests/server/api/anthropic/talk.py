"""Short ways to send a Messages request and to read what comes back."""

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
    """The documents of a stream's events."""
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]


def refused(response: httpx.Response) -> tuple[int, str]:
    """Status and type of an error, after a look at its form."""
    document = response.json()
    assert document["type"] == "error"
    assert document["error"]["message"]
    assert document["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]
    return response.status_code, document["error"]["type"]
