"""Name resolution fails: what needs the network reports it, everything else works, and nobody has to restart
anything.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.api_server import ApiServer, api_server
from tests.server.features.tools.web import Site, serving

NAME = "models.example"
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "far",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class Names:
    """The resolver of this process: failing, or knowing only `NAME`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.dead = True
        self._real = socket.getaddrinfo
        patch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: Any, *arguments: Any, **more: Any) -> Any:
        if host in ("127.0.0.1", "localhost", "::1", None):
            return self._real(host, *arguments, **more)
        if self.dead or host != NAME:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self._real("127.0.0.1", *arguments, **more)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async def chat(_request: web.Request) -> web.StreamResponse:
        return web.json_response(ANSWER)

    async with serving({"/v1/chat/completions": chat, "/v1/models": chat}) as running:
        yield running


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


async def test_a_remote_model_reports_a_dns_failure_and_answers_after_recovery(
    daemon: ApiServer, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch)
    port = site.host.rpartition(":")[2]
    far = {"name": "far", "source": f"http://{NAME}:{port}/v1#far"}
    deployment = await daemon.client.post("/api/deployments", json=far)
    assert deployment.status_code == 200, deployment.text
    ask = {"model": "far", "messages": [{"role": "user", "content": "Hello"}]}
    refusal = await daemon.client.post("/v1/chat/completions", json=ask)
    assert refusal.status_code in (502, 503), refusal.text
    error = refusal.json()["error"]["message"]
    assert "'far' cannot be reached" in error and "name resolution" in error and NAME not in error
    assert (await daemon.client.get("/health")).status_code == 200
    assert (await daemon.client.post("/api/keys", json={"name": "k", "scopes": ["chat"]})).status_code == 200
    names.dead = False
    answer = await daemon.client.post("/v1/chat/completions", json=ask)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"


async def test_downloading_a_model_without_dns_fails_with_a_clear_error(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch)
    response = await daemon.client.post(
        "/api/deployments", json={"name": "near", "source": "hf://someone/model"}
    )
    text = response.text
    if response.status_code == 200:
        text = (
            await daemon.client.post(
                "/v1/chat/completions",
                json={"model": "near", "messages": [{"role": "user", "content": "Hello"}]},
            )
        ).text
    assert '"error"' in text
    assert "internal_error" not in text


async def test_hanging_name_lookups_of_one_key_do_not_delay_other_keys(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, hold, lookup_event = Names(monkeypatch), threading.Event(), asyncio.Event()
    names.dead = False
    loop = asyncio.get_running_loop()

    def resolve(host: Any, *arguments: Any, **more: Any) -> Any:
        if str(host).startswith("dead"):
            loop.call_soon_threadsafe(lookup_event.set)
            hold.wait()
        return names(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    port = site.host.rpartition(":")[2]
    async with asyncio.timeout(60), api_server(tmp_path, tool_hosts=f"{NAME}:{port}") as daemon:

        async def key(name: str) -> dict[str, str]:
            body = {"name": name, "scopes": ["tools:web_fetch:call"]}
            response = await daemon.client.post("/api/keys", json=body)
            return {"authorization": f"Bearer {response.json()['key']}"}

        greedy, modest = await key("greedy"), await key("modest")

        async def fetch(url: str, headers: dict[str, str]) -> dict[str, Any]:
            call_body = {"arguments": {"url": url}}
            answer = await daemon.client.post("/api/tools/web_fetch/call", json=call_body, headers=headers)
            assert answer.status_code < 500 or answer.status_code == 502, answer.text
            return dict(answer.json())

        dead = [asyncio.create_task(fetch(f"http://dead-{number}.example/", greedy)) for number in range(40)]
        try:
            await lookup_event.wait()
            result = await fetch(f"http://{NAME}:{port}/v1/models", modest)
            assert "chatcmpl-1" in str(result), result
        finally:
            hold.set()
        answers = [str(answer) for answer in await asyncio.gather(*dead)]
        assert any("kind 'names'" in answer for answer in answers), answers
