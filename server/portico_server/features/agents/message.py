"""The messages that agents exchange. Their fields are the same as in Lagent's AgentMessage."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any, Final, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest

Content: TypeAlias = "str | list[dict[str, Any]]"

TOOL_CALL = "tool_call"
"""The ``type`` of a message in which a model calls tools; the calls are in ``extra_info["tool_calls"]``."""
TOOL_RESULT = "tool_result"
"""The ``type`` of a message with a tool result; the id of the tool call is in ``extra_info["tool_call_id"]``."""
HANDED_BACK = "handed_back"
"""The ``type`` of a message in which an agent hands the conversation back to the agent ``receiver``, which
continues it.
"""
PLAN = "plan"
"""The ``type`` of a message from a strategy to the model; `STEP` is the type of the model's reply."""
STEP = "step"


@dataclass(frozen=True, slots=True)
class AgentMessage:
    """A message. ``content`` is the original text or a list of parts; ``formatted`` is the value that an output format
    parsed.

    ``stream_state`` is 0 when the message is complete. ``created_at`` is in seconds since 1970.
    """

    sender: str
    content: Content
    formatted: Any = None
    type: str | None = None
    receiver: str | None = None
    extra_info: Mapping[str, Any] | None = None
    stream_state: int = 0
    created_at: float = field(default_factory=time.time)

    @property
    def text(self) -> str:
        """Return the text of the message, without its other parts."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def message_of(value: Any, sender: str = "user") -> AgentMessage:
    """Parse a message from JSON: text, parts, or an object with ``content``. Raise `InvalidRequest` if it is
    invalid.
    """
    if isinstance(value, str):
        return AgentMessage(sender, value)
    if _is_parts(value):
        return AgentMessage(sender, value)
    if isinstance(value, Mapping) and (
        isinstance(value.get("content"), str) or _is_parts(value.get("content"))
    ):
        fields = {
            name: value[name] for name in AgentMessage.__dataclass_fields__ if value.get(name) is not None
        }
        for name, kinds, noun in _FIELDS:
            if name in fields and (not isinstance(fields[name], kinds) or isinstance(fields[name], bool)):
                raise InvalidRequest(
                    f"'{name}' of a message must be {noun}.", code="invalid_message", param=f"message.{name}"
                )
        return AgentMessage(**{"sender": sender, **fields})
    raise InvalidRequest(
        "A message must be text, a list of parts, or an object with 'content' (text or parts).",
        code="invalid_message",
        param="message",
    )


_FIELDS: Final[tuple[tuple[str, type | tuple[type, ...], str], ...]] = (
    ("sender", str, "text"),
    ("type", str, "text"),
    ("receiver", str, "text"),
    ("extra_info", Mapping, "an object"),
    ("stream_state", int, "a whole number"),
    ("created_at", (int, float), "a number"),
)


def _is_parts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("type"), str) for part in value
    )
