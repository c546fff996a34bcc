"""One turn of an agent that the daemon runs."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from portico._running import AsyncRunning, Running
from portico.agent.message import Message
from portico.agent.specify import Spec
from portico.agent.stage import Heard, Scene, tell
from portico.wire import Finished


@dataclass(frozen=True, slots=True)
class Turn:
    """A ``message`` to the agent ``spec`` at ``path`` in the tree that the session belongs to."""

    scene: Scene
    path: str
    spec: Spec
    message: Message
    variables: Mapping[str, Any]

    def run(self) -> Message:
        """The answer. Whoever listens is told of all that happens."""
        with contextlib.closing(self._begun()) as running:
            for event in running.events():
                tell(self.path, event)
            return self._answer(running.result())

    async def arun(self) -> Message:
        """The same for asyncio."""
        running = await self._abegun()
        try:
            async for event in running.events():
                tell(self.path, event)
            return self._answer(await running.result())
        finally:
            await running.close()

    def heard(self) -> Generator[Heard, None, Message]:
        """All that happens, but for the end, which is returned. Closing it ends the turn at once."""
        with contextlib.closing(self._begun()) as running:
            for event in running.events():
                if not isinstance(event, Finished):
                    yield Heard("", event)
            return self._answer(running.result())

    def _begun(self) -> Running:
        return self.scene.house.client.agents.start(self.spec.json, self.message.to_json(), **self._options())

    async def _abegun(self) -> AsyncRunning:
        client = await self.scene.house.loop_client()
        return client.agents.start(self.spec.json, self.message.to_json(), **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "session": (self.scene.app, self.scene.session),
            "path": self.path,
            "variables": self.variables,
            "functions": self.spec.functions,
        }

    def _answer(self, result: Any) -> Message:
        return Message.of(result, self.spec.json["name"])
