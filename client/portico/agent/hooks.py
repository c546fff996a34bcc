"""What is done to messages before and after an agent, and before and after its actions.

Those with fields are carried out by the daemon. A class of your own, made from `Hook`, is carried out here: its
methods get a message and return another one, or nothing to leave it as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from portico._keywords import exact_methods
from portico._source import Bound, portable
from portico.agent.message import Message
from portico.errors import InvalidRequest

Moment: TypeAlias = Literal["before_agent", "after_agent", "before_action", "after_action"]

MOMENTS: Final[tuple[Moment, ...]] = ("before_agent", "after_agent", "before_action", "after_action")


class Hook:
    """Make a class of it and write the methods that you need.

    ``whose`` is the agent or the executor. An action's message has ``{"name", "parameters"}`` as its content where an
    `Executor` carries it out, and its parameters as JSON where an agent calls a tool by itself.
    """

    def before_agent(self, whose: Any, message: Message, session: str) -> Message | None:
        """Before the message goes into the agent's memory."""
        return message

    def after_agent(self, whose: Any, message: Message, session: str) -> Message | None:
        """After the answer went into the agent's memory."""
        return message

    def before_action(self, whose: Any, message: Message, session: str) -> Message | None:
        """Before a tool is called."""
        return message

    def after_action(self, whose: Any, message: Message, session: str) -> Message | None:
        """Before what a tool returned is told to anybody."""
        return message

    def has(self, moment: Moment) -> bool:
        """Whether this class has a method of its own for a moment."""
        return getattr(type(self), moment) is not getattr(Hook, moment)


@exact_methods
@dataclass(frozen=True, slots=True)
class Prefix:
    """Put a text before what ``senders`` say; none: before everything."""

    text: str
    senders: Sequence[str] = ()
    on: Moment = "before_agent"

    def to_json(self) -> dict[str, Any]:
        return _declared(self.on, "prefix", self.senders, text=self.text)


@exact_methods
@dataclass(frozen=True, slots=True)
class Redact:
    """Put ``replacement`` in the place of everything that matches ``pattern``."""

    pattern: str
    replacement: str = "[redacted]"
    senders: Sequence[str] = ()
    on: Moment = "before_agent"

    def to_json(self) -> dict[str, Any]:
        return _declared(self.on, "redact", self.senders, pattern=self.pattern, replacement=self.replacement)


@exact_methods
@dataclass(frozen=True, slots=True)
class Guard:
    """Refuse a message in which ``pattern`` is found; ``text`` is the reason that is given."""

    pattern: str
    text: str = ""
    senders: Sequence[str] = ()
    on: Moment = "before_agent"

    def to_json(self) -> dict[str, Any]:
        return _declared(self.on, "guard", self.senders, pattern=self.pattern, text=self.text)


@exact_methods
@dataclass(frozen=True, slots=True)
class Limit:
    """Cut a message after ``most`` characters."""

    most: int
    senders: Sequence[str] = ()
    on: Moment = "before_agent"

    def to_json(self) -> dict[str, Any]:
        return _declared(self.on, "limit", self.senders, most=self.most)


@exact_methods
@dataclass(frozen=True, slots=True)
class Code:
    """Hand the message, as an object, to a self-contained function in the sandbox; it returns a text or an object."""

    function: Callable[[dict[str, Any]], Any] | str
    senders: Sequence[str] = ()
    on: Moment = "before_agent"

    def to_json(self) -> dict[str, Any]:
        source = self.function
        if not isinstance(source, str):
            found = portable(source)
            if isinstance(found, Bound):
                raise InvalidRequest(
                    f"The hook's function cannot run in the sandbox: {found.reason}. Make a class from Hook instead.",
                    param="hooks",
                )
            source = found.source
        return _declared(self.on, "code", self.senders, source=source)


Declared: TypeAlias = "Prefix | Redact | Guard | Limit | Code"
AnyHook: TypeAlias = "Hook | Declared | Mapping[str, Any]"


def _declared(on: Moment, do: str, senders: Sequence[str], **fields: Any) -> dict[str, Any]:
    given = {key: value for key, value in fields.items() if value}
    return {"on": on, "do": do, **({"senders": list(senders)} if senders else {}), **given}


def apply_hooks(
    hooks: Sequence[AnyHook], moment: Moment, whose: Any, message: Message, session: str
) -> Message:
    """A message after all hooks of ours for a moment, in their order."""
    for hook in hooks:
        if isinstance(hook, Hook) and hook.has(moment):
            message = Message.of(getattr(hook, moment)(whose, message, session) or message)
    return message
