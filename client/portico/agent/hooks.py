"""Hooks that change the messages of an agent before and after its turn, and before and after each of its actions.

The daemon runs the hooks that are declared with fields only. Your own classes, derived from `Hook`, run in this
process: their methods receive a message and return another message, or ``None`` to leave it unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from portico._keywords import exact_methods
from portico._source import Bound, portable
from portico.agent.message import Message
from portico.errors import InvalidRequest
from portico.spelling import nearest

Moment: TypeAlias = Literal["before_agent", "after_agent", "before_action", "after_action"]

MOMENTS: Final[tuple[Moment, ...]] = ("before_agent", "after_agent", "before_action", "after_action")


class Hook:
    """Base class for your own hooks: override the methods that you need.

    ``whose`` is the agent or the executor. The content of an action's message is ``{"name", "parameters"}``. The
    message after an action contains the text of the result.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in vars(cls):
            if name.startswith(("before_", "after_")) and name not in MOMENTS:
                raise InvalidRequest(
                    f"'{name}' of {cls.__name__} is not a hook method and would never be "
                    f"called.{nearest(name, MOMENTS)}",
                    code="unknown_parameter",
                    param=name,
                )

    def before_agent(self, whose: Any, message: Message, session: str) -> Message | None:
        """Change a message before it is added to the agent's memory. Return ``None`` to leave it unchanged."""
        return message

    def after_agent(self, whose: Any, message: Message, session: str) -> Message | None:
        """Change an answer after it has been added to the agent's memory. Return ``None`` to leave it unchanged."""
        return message

    def before_action(self, whose: Any, message: Message, session: str) -> Message | None:
        """Change an action before its tool is called. Return ``None`` to leave it unchanged."""
        return message

    def after_action(self, whose: Any, message: Message, session: str) -> Message | None:
        """Change the result of a tool before it is passed on. Return ``None`` to leave it unchanged."""
        return message

    def has(self, moment: Moment) -> bool:
        """Return whether the hook runs at a moment, that is, whether its class overrides the method of that name."""
        return getattr(type(self), moment) is not getattr(Hook, moment)


@exact_methods
@dataclass(frozen=True, slots=True)
class Prefix:
    """Prepend text to messages from ``senders``, or to all messages if ``senders`` is empty."""

    text: str
    senders: Sequence[str] = ()
    on: Moment = "before_agent"

    def to_json(self) -> dict[str, Any]:
        return _hook_entry(self.on, "prefix", self.senders, text=self.text)


@exact_methods
@dataclass(frozen=True, slots=True)
class Redact:
    """Replace all matches of ``pattern`` with ``replacement``."""

    pattern: str
    replacement: str = "[redacted]"
    senders: Sequence[str] = ()
    on: Moment = "before_agent"

    def to_json(self) -> dict[str, Any]:
        return _hook_entry(
            self.on, "redact", self.senders, pattern=self.pattern, replacement=self.replacement
        )


@exact_methods
@dataclass(frozen=True, slots=True)
class Guard:
    """Refuse a message that matches ``pattern``; ``text`` is the reason."""

    pattern: str
    text: str = ""
    senders: Sequence[str] = ()
    on: Moment = "before_agent"

    def to_json(self) -> dict[str, Any]:
        return _hook_entry(self.on, "guard", self.senders, pattern=self.pattern, text=self.text)


@exact_methods
@dataclass(frozen=True, slots=True)
class Limit:
    """Truncate a message to ``most`` characters."""

    most: int
    senders: Sequence[str] = ()
    on: Moment = "before_agent"

    def to_json(self) -> dict[str, Any]:
        return _hook_entry(self.on, "limit", self.senders, most=self.most)


@exact_methods
@dataclass(frozen=True, slots=True)
class Code:
    """Pass the message, as an object, to a self-contained function in the sandbox. The function returns a text or an
    object.
    """

    function: Callable[[dict[str, Any]], Any] | str
    senders: Sequence[str] = ()
    on: Moment = "before_agent"

    def to_json(self) -> dict[str, Any]:
        source = self.function
        if not isinstance(source, str):
            source_text = portable(source)
            if isinstance(source_text, Bound):
                raise InvalidRequest(
                    f"The hook's function cannot run in the sandbox: {source_text.reason}. Derive a class "
                    "from Hook instead.",
                    param="hooks",
                )
            source = source_text.source
        return _hook_entry(self.on, "code", self.senders, source=source)


Declared: TypeAlias = "Prefix | Redact | Guard | Limit | Code"
AnyHook: TypeAlias = "Hook | Declared | Mapping[str, Any]"


def _hook_entry(on: Moment, do: str, senders: Sequence[str], **fields: Any) -> dict[str, Any]:
    given_fields = {key: value for key, value in fields.items() if value}
    return {"on": on, "do": do, **({"senders": list(senders)} if senders else {}), **given_fields}


_DECLARED: Final[Mapping[str, Callable[..., Declared]]] = {
    "prefix": Prefix,
    "redact": Redact,
    "guard": Guard,
    "limit": Limit,
}


def to_local_hook(hook: AnyHook) -> Hook:
    """Convert a hook to a hook that runs in this process. Raises `InvalidRequest` for code given as text and for an
    unknown hook.
    """
    if isinstance(hook, Hook):
        return hook
    if isinstance(hook, Mapping):
        fields = dict(hook)
        declare = _DECLARED.get(str(fields.pop("do", "")))
        if declare is None:
            raise InvalidRequest(
                f"{hook!r:.80} is not a hook of an Executor: 'do' must be one of {', '.join(_DECLARED)}, or "
                "give an object.",
                param="hooks",
            )
        hook = declare(**fields)
    if isinstance(hook, Code) and isinstance(hook.function, str):
        raise InvalidRequest(
            "Code as text runs in the daemon's sandbox; an Executor needs the function itself.", param="hooks"
        )
    return _Here(hook)


class _Here(Hook):
    """A declared hook that runs in this process."""

    def __init__(self, declared_hook: Declared) -> None:
        self._declared_hook = declared_hook
        self._name = type(declared_hook).__name__

    def has(self, moment: Moment) -> bool:
        return self._declared_hook.on == moment

    def before_action(self, whose: Any, message: Message, session: str) -> Message:
        return self._run_hook(message)

    def after_action(self, whose: Any, message: Message, session: str) -> Message:
        return self._run_hook(message)

    def _run_hook(self, message: Message) -> Message:
        declared_hook = self._declared_hook
        if declared_hook.senders and message.sender not in declared_hook.senders:
            return message
        if isinstance(declared_hook, Code):
            assert callable(declared_hook.function)
            value = declared_hook.function(message.to_json())
            return message if value is None else Message.of(value, message.sender)
        action = message.content if isinstance(message.content, Mapping) else None
        before = message.text if action is None else json.dumps(action.get("parameters"), ensure_ascii=False)
        after = self._text(declared_hook, before)
        if after == before:
            return message
        if action is None:
            return message.but(content=after)
        try:
            return message.but(content={**action, "parameters": json.loads(after)})
        except ValueError as error:
            raise InvalidRequest(
                f"After {self._name}, the parameters of '{action.get('name')}' are not valid JSON.",
                param="hooks",
            ) from error

    def _text(self, declared_hook: Prefix | Redact | Guard | Limit, text: str) -> str:
        match declared_hook:
            case Prefix():
                return declared_hook.text + text
            case Redact():
                return re.sub(declared_hook.pattern, declared_hook.replacement, text)
            case Limit():
                return text[: declared_hook.most]
            case Guard() if re.search(declared_hook.pattern, text):
                raise InvalidRequest(declared_hook.text or "A guard refused a message.", code="guarded")
        return text


def apply_hooks(
    hooks: Sequence[AnyHook], moment: Moment, whose: Any, message: Message, session: str
) -> Message:
    """Apply all local hooks for a moment to a message, in order, and return the result."""
    for hook in hooks:
        if isinstance(hook, Hook) and hook.has(moment):
            message = Message.of(getattr(hook, moment)(whose, message, session) or message)
    return message
