"""A fixture for engine tests: real models with real child processes in a temporary home folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from portico_server.core.errors import PorticoError
from portico_server.core.principal import LOCAL
from portico_server.core.registry import Registry
from portico_server.core.relay import Operation, Relay, RelayResponse
from portico_server.core.servable import Relays
from portico_server.db.database import Database
from portico_server.models.service import ModelService
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog
from portico_server.settings import Settings, load

Script = list[dict[str, Any]]


class ModelFixture:
    """The components that a model needs, and shortcuts for calling the model."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.settings: Settings = replace(load({"home": str(home)}, {}).settings, **settings)
        self.database = Database.at(self.settings.database_path)
        self.database.prepare()
        self.registry = Registry()
        self.runner = Runner(self.registry, UsageLog(self.database), timeout=60)
        self.scheduler = Scheduler(self.database, self.runner)
        self.models = ModelService(self.database, self.registry, self.runner, self.scheduler, self.settings)

    async def relay(
        self, name: str, body: Mapping[str, Any], operation: Operation = "chat/completions"
    ) -> RelayResponse:
        servable = await self.registry.resolve(name, LOCAL)
        assert isinstance(servable, Relays)
        return await self.runner.relay(servable, name, Relay(operation, {"model": name, **body}), LOCAL)

    async def ask(self, name: str, body: Mapping[str, Any], operation: Operation = "chat/completions") -> Any:
        """Call a model without streaming and return the parsed response."""
        relay_response = await self.relay(name, body, operation)
        return orjson.loads(b"".join([chunk async for chunk in relay_response.chunks]))

    async def stream(
        self, name: str, body: Mapping[str, Any], operation: Operation = "chat/completions"
    ) -> Streamed:
        """Call a model with streaming, read the stream to its end, and return all frames."""
        relay_response = await self.relay(name, {**body, "stream": True}, operation)
        return await Streamed.of(relay_response)


class Streamed:
    """The frames of a stream, and the error that ended the stream, if any."""

    def __init__(
        self, relay_response: RelayResponse, frames: list[bytes], error: PorticoError | None
    ) -> None:
        self.usage = relay_response.usage
        self.frames = frames
        self.error = error
        self.documents = [
            orjson.loads(data)
            for frame in frames
            if frame[:1] != b":" and (data := frame.partition(b"data: ")[2]) != b"[DONE]"
        ]

    @classmethod
    async def of(cls, relayed: RelayResponse) -> Streamed:
        data, error = b"", None
        try:
            async for chunk in relayed.chunks:
                assert chunk.endswith(b"\n\n"), "only complete frames are passed on"
                data += chunk
        except PorticoError as raised_error:
            error = raised_error
        return cls(relayed, [frame for frame in data.split(b"\n\n") if frame], error)

    @property
    def done(self) -> bool:
        return self.frames[-1] == b"data: [DONE]"

    def text(self, index: int = 0) -> str:
        return "".join(
            choice.get("delta", {}).get("content") or choice.get("text") or ""
            for document in self.documents
            for choice in document.get("choices", ())
            if choice["index"] == index
        )

    def finishes(self) -> dict[int, str]:
        return {
            choice["index"]: choice["finish_reason"]
            for document in self.documents
            for choice in document.get("choices", ())
            if choice["finish_reason"]
        }


@asynccontextmanager
async def model_fixture(home: Path, **settings: Any) -> AsyncIterator[ModelFixture]:
    """Yield a `ModelFixture` with the home folder ``home``. When the context ends, all processes of its models have
    exited.
    """
    fixture = ModelFixture(home, **settings)
    await fixture.models.start()
    try:
        yield fixture
    finally:
        await fixture.models.close()
        await fixture.runner.close()
        fixture.database.close()


def user(text: str) -> list[dict[str, Any]]:
    """Return one user message."""
    return [{"role": "user", "content": text}]
