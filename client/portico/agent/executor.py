"""`Executor`: calls tools of the daemon, and local functions, as messages request."""

from __future__ import annotations

import inspect
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from portico._keywords import exact_methods
from portico.agent.hooks import AnyHook, apply_hooks, to_local_hook
from portico.agent.message import Message
from portico.agent.scope import CALL_SCOPE, DaemonClients, notify, run_coroutine
from portico.client import AsyncClient, Client
from portico.errors import (
    Conflict,
    EngineFailed,
    Forbidden,
    InvalidRequest,
    NotFound,
    PorticoError,
    TooLarge,
)
from portico.functions import Function, plain
from portico.schemas.tools import ToolResult
from portico.wire import ToolCalled, ToolReturned

NOTEBOOKS: Final = ("code_interpreter", "python_light")
"""Tools that accept ``code``. The first keeps variables in a ``session``."""

TOLD: Final = (InvalidRequest, NotFound, Forbidden, Conflict, TooLarge, EngineFailed)
"""Errors that are returned for a model to react to. An unreachable daemon is not among them."""


@exact_methods
class Executor:
    """Executes the action in a message and returns the result as a message.

    The action is the content, ``{"name": TOOL, "parameters": {…}}``, or the ``formatted`` value of a `ToolParser`: an
    object like this, or code for the notebook among ``tools``. Errors are returned as messages. A notebook keeps its
    variables for the session of the enclosing call. ``tools`` and ``hooks`` have the same format as in an `Agent`:
    names in the daemon, renamed tools (``{"tool": NAME, "as": OTHER}``), or functions. All hooks run in this process.

    Example::

        from portico.agent import Executor, Message


        def area(width: float, height: float) -> float:
            return width * height


        action = {"name": "area", "parameters": {"width": 2, "height": 3}}
        print(Executor([area])(Message(action)).content)
    """

    def __init__(
        self,
        tools: Sequence[str | Mapping[str, Any] | Function | Callable[..., Any]],
        *,
        hooks: Sequence[AnyHook] = (),
        name: str = "executor",
        client: Client | AsyncClient | None = None,
    ) -> None:
        self._functions: dict[str, Function] = {}
        self._names: dict[str, str] = {}
        """The names of tools in the daemon, keyed by their names in this executor."""
        self.tools = tuple(self._take(tool) for tool in tools)
        self.hooks = tuple(to_local_hook(hook) for hook in hooks)
        self.name = name
        self._daemon = None if client is None else DaemonClients.of(client)
        self._own_session = secrets.token_hex(4)

    def _take(self, tool: str | Mapping[str, Any] | Function | Callable[..., Any]) -> str:
        """Register a tool and return its name in this executor."""
        if isinstance(tool, str):
            self._names[tool] = tool
            return tool
        if isinstance(tool, Mapping):
            name = tool.get("tool") or tool.get("function")
            unknown = set(tool) - {"tool", "function", "as", "description", "parameters", "seconds"}
            if not isinstance(name, str) or unknown:
                raise InvalidRequest(
                    f'{tool!r:.80} is not a tool: an object must name a tool as {{"tool": NAME, "as": '
                    "OTHER}.",
                    param="tools",
                )
            tool_name = str(tool.get("as") or name)
            self._names[tool_name] = name
            return tool_name
        function = tool if isinstance(tool, Function) else Function.of(tool)
        self._functions[function.name] = function
        return function.name

    def __call__(self, message: Message, *, session: int | str | None = None) -> Message:
        """Execute an action and wait for the result."""
        action = self._begin(message, session)
        if isinstance(action, Message):
            return self._end(action, session)
        tool, arguments = action
        if tool in self._functions:
            try:
                value = self._call(tool, arguments)
                if inspect.isawaitable(value):
                    value = run_coroutine(_value(value))
            except Exception as error:  # noqa: BLE001  # what a function raises is for the model to read
                return self._end(self._exception_message(tool, error), session)
            return self._end(self._valued(tool, value), session)
        try:
            result = self._at().client.tools.call(self._names[tool], arguments)
        except PorticoError as error:
            return self._end(self._failure_message(tool, error), session)
        return self._end(self._result_message(tool, result), session)

    async def acall(self, message: Message, *, session: int | str | None = None) -> Message:
        """The asyncio version of `__call__`."""
        action = self._begin(message, session)
        if isinstance(action, Message):
            return self._end(action, session)
        tool, arguments = action
        if tool in self._functions:
            try:
                value = self._call(tool, arguments)
                value = await value if inspect.isawaitable(value) else value
            except Exception as error:  # noqa: BLE001  # what a function raises is for the model to read
                return self._end(self._exception_message(tool, error), session)
            return self._end(self._valued(tool, value), session)
        try:
            result = await (await self._at().loop_client()).tools.call(self._names[tool], arguments)
        except PorticoError as error:
            return self._end(self._failure_message(tool, error), session)
        return self._end(self._result_message(tool, result), session)

    def _at(self) -> DaemonClients:
        scope = CALL_SCOPE.get()
        return self._daemon or (scope.daemon if scope is not None else DaemonClients.of(None))

    def _session(self, session: int | str | None) -> str:
        scope = CALL_SCOPE.get()
        if session is None and scope is not None:
            return scope.session
        return self._own_session if session is None else str(session)

    def _begin(self, message: Message, session: int | str | None) -> tuple[str, dict[str, Any]] | Message:
        """Return the tool to call and its parameters. If no tool can be called, return the message to answer with."""
        checked_message = apply_hooks(self.hooks, "before_action", self, message, self._session(session))
        action = _action(checked_message)
        if isinstance(action, str):
            tool = next(
                (name for notebook in NOTEBOOKS for name, at in self._names.items() if at == notebook), ""
            )
            action = {"name": tool, "parameters": {"code": action}} if tool else None
        if not isinstance(action, Mapping) or not isinstance(action.get("name"), str):
            problem = (
                (checked_message.formatted or {}).get("error")
                if isinstance(checked_message.formatted, Mapping)
                else None
            )
            return self._reply(
                str(problem or 'The message contains no action: give {"name": TOOL, "parameters": {…}}.'),
                True,
            )
        tool, given_arguments = action["name"], action.get("parameters", action.get("arguments")) or {}
        if tool not in self.tools:
            return self._reply(f"Unknown tool '{tool}'. Tools are: {', '.join(self.tools) or 'none'}.", True)
        if not isinstance(given_arguments, Mapping):
            return self._reply(f"The parameters of '{tool}' must be an object.", True)
        arguments = dict(given_arguments)
        if self._names.get(tool) == NOTEBOOKS[0]:
            arguments.setdefault("session", self._notebook(session))
        notify(self.name, ToolCalled("", tool, Message(arguments).text))
        return tool, arguments

    def _notebook(self, session: int | str | None) -> str:
        scope = CALL_SCOPE.get()
        prefix = f"{scope.app}." if scope is not None else ""
        return re.sub(r"[^A-Za-z0-9_.:-]", "_", f"{prefix}{self._session(session)}")[-64:]

    def _call(self, tool: str, arguments: Mapping[str, Any]) -> Any:
        function = self._functions[tool]
        return function.call(**function.bind(arguments))

    def _exception_message(self, tool: str, error: Exception) -> Message:
        return self._reply(f"'{tool}' failed: {type(error).__name__}: {error}", True, tool)

    def _valued(self, tool: str, value: Any) -> Message:
        plain_value = plain(value)
        text = (
            plain_value
            if isinstance(plain_value, str)
            else json.dumps(plain_value, ensure_ascii=False, default=str)
        )
        return self._reply(text, False, tool).but(
            formatted=plain_value if isinstance(plain_value, dict) else None
        )

    def _failure_message(self, tool: str, error: PorticoError) -> Message:
        if not isinstance(error, TOLD):
            raise error
        return self._reply(f"'{tool}' failed: {error.message}", True, tool)

    def _result_message(self, tool: str, result: ToolResult) -> Message:
        artifacts = [
            {"name": item.name, "media_type": item.media_type, "link": item.link} for item in result.artifacts
        ]
        return self._reply(result.text, result.is_error, tool).but(
            formatted=result.structured,
            extra_info={
                "tool": tool,
                "is_error": result.is_error,
                **({"artifacts": artifacts} if artifacts else {}),
            },
        )

    def _reply(self, text: str, is_error: bool, tool: str = "") -> Message:
        notify(self.name, ToolReturned("", tool, text, is_error))
        return Message(text, self.name, extra_info={"tool": tool, "is_error": is_error})

    def _end(self, message: Message, session: int | str | None) -> Message:
        return apply_hooks(self.hooks, "after_action", self, message, self._session(session))


async def _value(awaitable: Any) -> Any:
    return await awaitable


def _action(message: Message) -> Any:
    """Return the action in a message: the content if it is an object, otherwise the action that a parser found."""
    if isinstance(message.content, Mapping):
        return message.content
    if isinstance(message.formatted, Mapping) and message.formatted.get("status") != -1:
        return message.formatted.get("action", message.formatted if "name" in message.formatted else None)
    return None
