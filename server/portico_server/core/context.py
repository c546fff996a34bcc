"""The complete interface that the daemon offers to a Servable at work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias, TypeVar

from portico.wire import Event
from portico_server.core.principal import Principal
from portico_server.core.question import GivenAnswer, NewQuestion
from portico_server.core.request import Request, Result

Listener: TypeAlias = Callable[[Event], Awaitable[None]]

_Value = TypeVar("_Value")

ENDS_AT: ContextVar[float | None] = ContextVar("ends_at", default=None)
"""The time at which the caller cancels the current call, if known. The callee then needs no timer for the same time."""


class Context(Protocol):
    """A run's view of the daemon."""

    @property
    def run(self) -> str:
        """The id of the run."""

    @property
    def caller(self) -> Principal: ...

    @property
    def deadline(self) -> float | None:
        """The time on the event loop's clock at which this run is cancelled, or ``None``.

        Time during which the run waits for an answer does not count, so read the property again instead of storing its
        value.
        """

    def emit(self, event: Event) -> Awaitable[None]:
        """Send an event, in order, to all listeners; wait while a listener has too many unread events."""

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        """Call another Servable as a child run: scopes are checked, and cancelling this run cancels the child.

        The child's events go only to ``listener``; pass ``context.emit`` to forward them as this run's own. Raises
        `PorticoError` if the Servable does not exist, is not allowed, or fails.
        """

    async def ask(self, question: NewQuestion) -> GivenAnswer:
        """Wait for an answer from outside the run. Meanwhile the run is ``waiting``, and its deadline is suspended.

        Raises `DeadlineExceeded` after ``question.limit`` seconds. A refusal is an answer, not an error.
        """

    async def outside(
        self,
        name: str,
        request: Mapping[str, Any],
        work: Callable[[], Awaitable[_Value]],
        dump: Callable[[_Value], Any],
        load: Callable[[Any], _Value],
    ) -> _Value:
        """Return the result of ``work``, which reads or changes data that no Servable manages, such as a session.

        A recording contains the result as the JSON value that ``dump`` returns. A replay returns it by ``load``, and
        does not call ``work``. ``request`` is JSON that says what ``work`` does.
        """


class ContextWithin:
    """A context that wraps ``outer``; subclasses override parts of it. See `Context`."""

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
        """The number of flows and agents that this context is nested in."""
        return depth_of(self._outer)

    def emit(self, event: Event) -> Awaitable[None]:
        return self._outer.emit(event)

    async def call(self, name: str, request: Request, *, listener: Listener | None = None) -> Result:
        return await self._outer.call(name, request, listener=listener)

    async def ask(self, question: NewQuestion) -> GivenAnswer:
        return await self._outer.ask(question)

    async def outside(
        self,
        name: str,
        request: Mapping[str, Any],
        work: Callable[[], Awaitable[_Value]],
        dump: Callable[[_Value], Any],
        load: Callable[[Any], _Value],
    ) -> _Value:
        return await self._outer.outside(name, request, work, dump, load)


def no_value(_value: object) -> None:
    """Convert the result of `Context.outside` for work that returns nothing."""


def depth_of(context: Context) -> int:
    """Return the number of flows and agents that a context is nested in."""
    return context.depth if isinstance(context, ContextWithin) else 0


def innermost(context: Context) -> Context:
    """Return the context of the run itself, without its wrappers."""
    while isinstance(context, ContextWithin):
        context = context._outer
    return context
