"""A class with a ``forward`` under a name: the daemon takes its calls, this process answers them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

from portico.agent.message import Message
from portico.functions import Function


class Answers(Protocol):
    """What is served: `portico.agent.Agent`."""

    def __call__(self, message: Mapping[str, Any], *, session: str) -> Message: ...

    async def acall(self, message: Mapping[str, Any], *, session: str) -> Message: ...

    def forward(self, *args: Any, **kwargs: Any) -> Any: ...


def function_name(name: str) -> str:
    """The tool behind a deployed agent that is served."""
    return f"{name}_forward"


def served(agent: Answers, name: str) -> Function:
    """The function that answers for an agent: a message and the name of a session in, a message out."""

    async def asynchronous(message: Mapping[str, Any], session: str) -> dict[str, Any]:
        return (await agent.acall(message, session=session)).to_json()

    def blocking(message: Mapping[str, Any], session: str) -> dict[str, Any]:
        return agent(message, session=session).to_json()

    call = asynchronous if inspect.iscoroutinefunction(agent.forward) else blocking
    return Function.of(
        call, name=function_name(name), description=f"What '{name}' answers to a message.", timeout=3600.0
    )
