"""What a Servable may ask of the daemon while it works, and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Protocol, TypeAlias

from portico.wire import Event
from portico_server.core.principal import Principal
from portico_server.core.question import GivenAnswer, NewQuestion
from portico_server.core.request import Request, Result

Listener: TypeAlias = Callable[[Event], Awaitable[None]]

ENDS_AT: ContextVar[float | None] = ContextVar("ends_at", default=None)
"""The moment at which this very call is cancelled by whoever made it, where that is known: a second timer for the same
moment would cost and do nothing.
"""


class Context(Protocol):
    """One run's view of the daemon."""

    @property
    def run(self) -> str:
        """The id of this run."""

    @property
    def caller(self) -> Principal: ...

    @property
    def deadline(self) -> float | None:
        """The moment on the event loop's clock at which this run is cancelled, or ``None``.

        Time in which the run waits for an answer does not count: ask again, do not keep it.
        """

    def emit(self, event: Event) -> Awaitable[None]:
        """Send an event, in order, to whoever listens; waits while a listener is too far behind."""

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        """Call another Servable as a child run: scopes checked, cancelled with us.

        The child's events go to ``listener`` alone; pass ``context.emit`` to let them through as our own.
        Raises `PorticoError` if it is not there, not allowed, or failed.
        """

    async def ask(self, question: NewQuestion) -> GivenAnswer:
        """Wait until somebody outside answers; the run is ``waiting`` meanwhile, and its own deadline stands still.

        Raises `DeadlineExceeded` after ``question.limit`` seconds. A refusal is an answer, not an error.
        """


class ContextWithin:
    """A context within ``outer``: the same, but for what a subclass does differently. See `Context`."""

    __slots__ = ("_outer",)

    def __init__(self, outer: Context) -> None:
        self._outer = outer

    @property
    def run(self) -> str:
        return self._outer.run

    @property
    def caller(self) -> Principal:
        return self._outer.caller

    @property
    def deadline(self) -> float | None:
        return self._outer.deadline

    @property
    def depth(self) -> int:
        """How many flows and agents are around what has this context."""
        return depth_of(self._outer)

    def emit(self, event: Event) -> Awaitable[None]:
        return self._outer.emit(event)

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        return await self._outer.call(name, request, listener=listener)

    async def ask(self, question: NewQuestion) -> GivenAnswer:
        return await self._outer.ask(question)


def depth_of(context: Context) -> int:
    """How many flows and agents are around what has this context."""
    return context.depth if isinstance(context, ContextWithin) else 0


def innermost(context: Context) -> Context:
    """The context of the run itself, without those within it."""
    while isinstance(context, ContextWithin):
        context = context._outer
    return context
