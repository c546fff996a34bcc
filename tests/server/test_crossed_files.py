"""The files that a request crosses: those on the stack when the engine or the index is called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tests.api_server import api_server

import portico_server
from portico_server.models.spec import ModelSpec

SERVER = str(Path(portico_server.__file__).parent)


@contextmanager
def traced(first: str, last: str) -> Iterator[list[str]]:
    """Yield the server's files that are on the stack when a function in ``last`` is first called from ``first``.

    Calls from elsewhere are ignored, such as those of an index that is being updated.
    """
    files: list[str] = []

    def look(frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or files or not frame.f_code.co_filename.endswith(last):
            return
        chain: list[str] = []
        at: FrameType | None = frame
        while at is not None:
            if at.f_code.co_filename.startswith(SERVER):
                chain.append(at.f_code.co_filename.removeprefix(f"{SERVER}/"))
            at = at.f_back
        if chain[-1] == first:
            files.extend(dict.fromkeys(reversed(chain)))

    sys.setprofile(look)
    try:
        yield files
    finally:
        sys.setprofile(None)


async def test_a_chat_completion_crosses_seven_files(tmp_path: Path) -> None:
    async with api_server(tmp_path) as daemon:
        await daemon.services.models.add(ModelSpec("clerk", "fake://"))
        body = {"model": "clerk", "messages": [{"role": "user", "content": "Hello"}]}
        (await daemon.client.post("/v1/chat/completions", json=body)).raise_for_status()
        with traced("api/gateway.py", "models/transport.py") as files:
            (await daemon.client.post("/v1/chat/completions", json=body)).raise_for_status()
    assert files == [
        "api/gateway.py",
        "api/openai/chat.py",
        "api/openai/relay.py",
        "runs/runner.py",
        "models/deployment.py",
        "models/engines/openai_client/passthrough.py",
        "models/transport.py",
    ]


async def test_a_search_crosses_seven_files_from_its_task_to_the_index(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "port.md").write_text("The lighthouse daemon listens on port 7419.\n", encoding="utf-8")
    async with api_server(tmp_path) as daemon:
        client = daemon.client
        vectors = ModelSpec(
            "vectors",
            "fake://",
            task="embedding",
            parameters={"dimensions": 16},
            aliases=("default-embedding",),
        )
        await daemon.services.models.add(vectors)
        await daemon.services.stores.start()
        (await client.post("/api/stores", json={"name": "notes", "folder": str(notes)})).raise_for_status()
        run = (await client.post("/api/stores/notes/sync")).json()["run"]
        async with client.stream("GET", f"/api/runs/{run}/events") as events:
            await events.aread()
        question = {"stores": ["notes"], "query": "port"}
        assert (await client.post("/api/search", json=question)).json()["data"]
        with traced("features/stores/many_stores.py", "features/stores/index/handle.py") as files:
            assert (await client.post("/api/search", json=question)).json()["data"]
    assert files == [
        "features/stores/many_stores.py",
        "runs/run.py",
        "features/stores/store.py",
        "features/stores/search.py",
        "features/stores/rank.py",
        "features/stores/index/manager.py",
        "features/stores/index/handle.py",
    ]
