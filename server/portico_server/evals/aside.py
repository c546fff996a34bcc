"""The context of what is evaluated: nobody listens, nobody is asked, and some names may mean something else.

A flow that is durable keeps no journal of its own here: the evaluation is what is taken up again after a crash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from portico.wire import Event
from portico_server.core.context import Context, Listener
from portico_server.core.errors import InvalidRequest, PorticoError, TooMany, Unavailable
from portico_server.core.principal import Principal
from portico_server.core.question import Answer, Question
from portico_server.core.registry import Registry
from portico_server.core.request import Request, Result
from portico_server.core.servable import Servable
from portico_server.runs.run import DEPTH

PATIENCE: Final = 300.0
"""Seconds that a call which is told to come back later is tried again."""

WAIT: Final = 30.0
"""The longest of the pauses in between."""

AGAIN: Final = 2
"""How often a call is repeated whose engine failed."""

FINAL: Final = frozenset({"nobody_to_ask", "disk_full"})
"""Codes of errors that no second call mends."""


class Aside:
    """`portico_server.core.context.Context` within another one. ``instead``: what answers in place of an app.

    Its calls wait where a queue is full, as nobody waits for the answer of one item.
    """

    __slots__ = ("_depth", "_inner", "_instead", "_listener", "_registry")

    def __init__(
        self,
        inner: Context,
        registry: Registry,
        instead: Mapping[str, Servable],
        listener: Listener | None = None,
        depth: int = 0,
    ) -> None:
        self._inner = inner
        self._registry = registry
        self._instead = instead
        self._listener = listener
        self._depth = depth

    @property
    def run(self) -> str:
        return self._inner.run

    @property
    def caller(self) -> Principal:
        return self._inner.caller

    @property
    def deadline(self) -> float | None:
        return self._inner.deadline

    async def emit(self, event: Event) -> None:
        if self._listener is not None:
            await self._listener(event)

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        if self._depth >= DEPTH:
            raise InvalidRequest(
                f"'{name}' was called {DEPTH} levels deep: something calls itself.", code="too_deep"
            )
        meant = self._registry.aliases.get(name, name)
        servable = self._instead.get(meant) or await self._registry.resolve(name, self.caller)
        child = Aside(self._inner, self._registry, self._instead, listener, self._depth + 1)
        return await self._patiently(servable, request, child)

    async def _patiently(self, servable: Servable, request: Request, child: Aside) -> Result:
        """A call that comes back when it is told to, and once more where an engine failed. Raises the last error."""
        until = asyncio.get_running_loop().time() + PATIENCE
        pause, failed = 0.5, 0
        while True:
            try:
                return await servable.call(request, child)
            except TooMany as error:
                wait = min(max(error.retry_after or pause, pause), WAIT)
                if asyncio.get_running_loop().time() + wait > until:
                    raise
            except PorticoError as error:
                failed += 1
                # What lies deeper was tried again there, or is the business of the app that called it.
                if self._depth or failed > AGAIN or error.status < 500 or error.code in FINAL:
                    raise
                wait = min(error.retry_after or pause, WAIT)
            await asyncio.sleep(wait)
            pause = min(pause * 2, WAIT)

    async def ask(self, question: Question) -> Answer:
        if question.kind == "function":
            return await self._inner.ask(question)
        raise Unavailable(
            f"'{question.name}' asks a person, whom an evaluation does not have. Evaluate an app without that step, or "
            "a tool that needs no approval.",
            code="nobody_to_ask",
        )
