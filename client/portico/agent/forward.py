"""Calls of an agent's ``forward``, which runs in this process. The session stores the message and the answer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from portico._keywords import UnknownKeyword
from portico.agent.memory import aopen_session, open_session
from portico.agent.message import Message
from portico.agent.scope import CALL_SCOPE, CallScope


@dataclass(frozen=True, slots=True)
class ForwardCall:
    """A call that passes ``message`` to an agent's ``forward``. ``name`` is the agent's name, ``path`` its path in the
    tree.
    """

    scope: CallScope
    path: str
    name: str
    forward: Callable[..., Any]
    message: Message

    def run(self) -> Message:
        """Run the call and return the answer."""
        scope = self.scope
        sessions = scope.daemon.client.sessions
        session = open_session(sessions, scope.app, scope.session)
        token = CALL_SCOPE.set(replace(scope, loop=None))
        try:
            reply = Message.of(self._call(), self.name)
        finally:
            CALL_SCOPE.reset(token)
        sessions.add(session.id, [self.message.to_json(), reply.to_json()], self.path)
        return reply

    async def arun(self) -> Message:
        """The asyncio version of `run`. A ``forward`` that is not asynchronous runs in a thread."""
        scope = self.scope
        sessions = (await scope.daemon.loop_client()).sessions
        session = await aopen_session(sessions, scope.app, scope.session)
        is_awaited = inspect.iscoroutinefunction(self.forward)
        token = CALL_SCOPE.set(replace(scope, loop=asyncio.get_running_loop() if is_awaited else None))
        try:
            answer = await self._call() if is_awaited else await asyncio.to_thread(self._call)
        finally:
            CALL_SCOPE.reset(token)
        reply = Message.of(answer, self.name)
        await sessions.add(session.id, [self.message.to_json(), reply.to_json()], self.path)
        return reply

    def _call(self) -> Any:
        """Call ``forward``, without the session if the method does not accept it."""
        takes_session = len(inspect.signature(self.forward).parameters) > 1
        return self.forward(self.message, self.scope.session) if takes_session else self.forward(self.message)


def refuse_options(name: str, variables: Mapping[str, Any] | None, options: Mapping[str, Any]) -> None:
    """Raise `UnknownKeyword` if there are ``variables`` or ``options``, because a ``forward`` receives only a message
    and a session.
    """
    option_names = [*(["variables"] if variables else []), *options]
    if option_names:
        raise UnknownKeyword(
            f"'{name}' has a forward, which does not accept '{option_names[0]}': pass it to the agents that "
            "it calls.",
            code="unknown_parameter",
            param=option_names[0],
        )
