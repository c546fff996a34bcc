"""Agents over scripted models that record their requests, on a real database and in the real sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from tests.registry_fixture import RegistryFixture

from portico.wire import Delta, Event, ToolCalled, Usage
from portico_server.core.context import Context
from portico_server.core.facts import NewFact
from portico_server.core.ids import new_id
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import CalledTool, Chat, ChatReply, Request, ToolResult
from portico_server.core.servable import Card
from portico_server.db.database import Database
from portico_server.features.agents import read
from portico_server.features.agents.app import AgentApps
from portico_server.features.agents.message import AgentMessage, message_of
from portico_server.features.agents.sessions import AgentSessions
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.skills.library import SkillLibrary
from portico_server.features.stores.tool_search import ToolIndex
from portico_server.features.tools.tool import Tool
from portico_server.features.tools.toolbox import Toolbox
from portico_server.runs.quotas import StorageQuota

Said: TypeAlias = "str | ChatReply | BaseException | Callable[[Chat], Any]"


def calls(*wanted: tuple[str, str], said: str = "") -> ChatReply:
    """Return a reply that calls tools, given as (name, arguments as JSON text)."""
    tool_calls = tuple(CalledTool(new_id("call_"), name, arguments) for name, arguments in wanted)
    return ChatReply(said, finish_reason="tool_calls", tool_calls=tool_calls)


class Speaker:
    """A chat model that says its lines in order and repeats the last; ``asked`` records its requests."""

    def __init__(self, *lines: Said, name: str = "voice") -> None:
        self.card = Card(name, "model", capabilities=frozenset({"chat"}))
        self.lines = list(lines)
        self.asked: list[Chat] = []

    async def call(self, request: Request, context: Context) -> ChatReply:
        assert isinstance(request, Chat)
        self.asked.append(request)
        line = self.lines.pop(0) if len(self.lines) > 1 else self.lines[0]
        if callable(line):
            line = line(request)
            if isinstance(line, Awaitable):
                line = await line
        if isinstance(line, BaseException):
            raise line
        reply = line if isinstance(line, ChatReply) else ChatReply(str(line))
        for piece in reply.content.split(" "):
            if piece:
                await context.emit(Delta(piece if piece == reply.content.split(" ")[0] else f" {piece}"))
        for call in reply.tool_calls:
            await context.emit(ToolCalled(call.id, call.name, call.arguments))
        return replace(reply, usage=Usage(10, 5), model=self.card.name)

    def sent(self, number: int = -1) -> list[Mapping[str, Any]]:
        """Return the messages of one call."""
        return list(self.asked[number].messages)

    def options(self, number: int = -1) -> Mapping[str, Any]:
        return self.asked[number].options


class Noted:
    """Records facts: (store, facts, attributes)."""

    def __init__(self) -> None:
        self.added: list[tuple[str, Sequence[NewFact], Mapping[str, Any]]] = []

    @property
    def texts(self) -> list[str]:
        return [fact.text for _store, facts, _attributes in self.added for fact in facts]

    async def add(
        self, store: str, new_facts: Sequence[NewFact], attributes: Mapping[str, Any], caller: Principal
    ) -> None:
        self.added.append((store, new_facts, attributes))


class AgentFixture:
    """A registry with agents."""

    def __init__(self, daemon: RegistryFixture, light: LightSandbox) -> None:
        self.daemon = daemon
        self.sessions = AgentSessions(daemon.database, daemon.registry)
        self.facts = Noted()
        self.agents = AgentApps(
            daemon.registry,
            daemon.runner,
            light,
            self.sessions,
            self.facts,
            ToolIndex(daemon.registry),
            SkillLibrary(daemon.database, StorageQuota()),
        )
        self.toolbox = Toolbox(daemon.registry)

    def model(self, *lines: Said, name: str = "voice") -> Speaker:
        """Register a model; the model called ``voice`` is the default."""
        speaker = Speaker(*lines, name=name)
        self.daemon.registry.add(speaker, replace=True)
        if name == "voice":
            self.daemon.registry.aliases.set("default", "voice")
        return speaker

    def tool(self, name: str, work: Callable[[Mapping[str, Any]], Any], *required: str) -> None:
        """Register a tool that returns the text that ``work`` produces from the arguments."""

        async def run(arguments: Mapping[str, Any], context: Context) -> ToolResult:
            result = work(arguments)
            if isinstance(result, Awaitable):
                result = await result
            return result if isinstance(result, ToolResult) else ToolResult(str(result))

        schema = {
            "type": "object",
            "properties": {field: {"type": "string"} for field in required},
            "required": list(required),
            "additionalProperties": False,
        }
        self.toolbox.add(Tool(name, name, f"Does {name}.", schema, run), replace=True)

    async def ask(
        self,
        message: Any,
        session: str = "",
        *,
        app: str = "app",
        path: str = "",
        caller: Principal = LOCAL,
        given: Mapping[str, Any] | None = None,
        **spec: Any,
    ) -> AgentMessage:
        """Return the answer of an agent with that specification."""
        reply, _events = await self.run(
            message, session, app=app, path=path, caller=caller, given=given, **spec
        )
        return reply

    async def run(
        self,
        message: Any,
        session: str = "",
        *,
        app: str = "app",
        path: str = "",
        caller: Principal = LOCAL,
        given: Mapping[str, Any] | None = None,
        **spec: Any,
    ) -> tuple[AgentMessage, list[Event]]:
        """Return the answer and the events before it."""
        run = await self.agents.begin(
            agent(**spec),
            message_of(message),
            caller,
            session=(app, session) if session else None,
            path=path,
            variables=given,
        )
        events = [event async for _number, event in run.log.follow()]
        result = await self.daemon.runner.wait(run)
        return message_of(result.value), events[:-1]

    async def memory(self, session: str, path: str = "", app: str = "app") -> list[dict[str, Any]]:
        """Return the messages of one agent in a session."""
        state = await self.state(session, app)
        messages: list[dict[str, Any]] = state.get(f"{path}.memory" if path else "memory", [])
        return messages

    async def state(self, session: str, app: str = "app") -> dict[str, Any]:
        """Return the state dict of a session; it is empty if there is none."""
        rows = (await self.sessions.list(LOCAL, app=app, name=session)).data
        return await self.sessions.state_dict(rows[0].id, LOCAL) if rows else {}


def agent(**spec: Any) -> Any:
    """Return a parsed specification."""
    return read.agent({"portico_agent": 1, **spec})


def texts(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(message["content"]) for message in messages]


@asynccontextmanager
async def open_agent_fixture(folder: Path) -> AsyncIterator[AgentFixture]:
    database = Database.at(folder / "portico.db")
    database.prepare()
    light = LightSandbox()
    daemon = RegistryFixture(database)
    try:
        yield AgentFixture(daemon, light)
    finally:
        await daemon.runner.close()
        await light.close()
        database.close()
