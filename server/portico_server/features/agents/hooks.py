"""Hooks: transformations of messages before and after an agent, and before and after its actions.

``prefix`` inserts ``text`` before messages from ``senders``. ``redact`` replaces ``pattern`` with ``replacement``.
``guard`` refuses a message that contains ``pattern``: around an agent, the refusal ends the turn; around an action,
the model gets the refusal instead of the result. ``limit`` truncates a message after ``most`` characters. ``code``
passes the message to a function in the sandbox, ``client`` to a function of the client; the returned value replaces
the message. For these two, the content of an action is the object ``{"name", "parameters"}``. Patterns are matched in
the sandbox, because a malicious expression can run forever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.interfaces import Evaluator
from portico_server.core.question import NewQuestion
from portico_server.features.agents.message import AgentMessage, message_of
from portico_server.features.agents.spec import AgentHook, Moment
from portico_server.runs.turn_steps import TurnSteps

ACTION: Final = "action"
"""The type of the message that represents a tool call: its text is the parameters as JSON."""

_REPLACE: Final = """
import re

def replace(pattern, replacement, text):
    return re.sub(pattern, replacement, text)
"""
_FOUND: Final = """
import re

def found(pattern, text):
    return re.search(pattern, text) is not None
"""


async def finds(pattern: str, text: str, evaluator: Evaluator) -> bool:
    """Return whether a text contains a match for a pattern."""
    return bool(await evaluator.evaluate(_FOUND, [pattern, text], {}))


async def hooked(
    hooks: Sequence[AgentHook],
    moment: Moment,
    message: AgentMessage,
    context: Context,
    evaluator: Evaluator,
    steps: TurnSteps,
    at: str,
) -> AgentMessage:
    """Return a message after all hooks for a moment were applied in order. Raise `InvalidRequest` if a guard refuses
    it.

    ``at`` is the position of the moment in the turn, under which the results of functions are recorded.
    """
    agent_hooks = [
        hook for hook in hooks if hook.on == moment and (not hook.senders or message.sender in hook.senders)
    ]

    async def work() -> AgentMessage:
        agent_message = message
        for number, hook in enumerate(agent_hooks):
            key = steps.key(f"{at}[{number}]") if steps.durable else ""
            agent_message = await _call_hook(hook, agent_message, context, evaluator, key)
        return agent_message

    if all(hook.do not in ("code", "client") for hook in agent_hooks):
        return await work()  # these hooks always produce the same result
    message_document = {**message.to_json(), "created_at": None}
    return await steps.once(
        at,
        "hook",
        message_document,
        work,
        AgentMessage.to_json,
        lambda found_message_document: message_of(found_message_document),
    )


async def _call_hook(
    hook: AgentHook, message: AgentMessage, context: Context, evaluator: Evaluator, key: str
) -> AgentMessage:
    match hook.do:
        case "prefix":
            return _with_text(message, hook.text + message.text)
        case "limit":
            text = message.text
            return message if len(text) <= hook.most else _with_text(message, text[: hook.most])
        case "redact":
            args = [hook.pattern, hook.replacement, message.text]
            return _with_text(message, str(await evaluator.evaluate(_REPLACE, args, {})))
        case "guard":
            if await finds(hook.pattern, message.text, evaluator):
                raise InvalidRequest(
                    hook.text or f"A guard refused a message of '{message.sender}'.", code="guarded"
                )
            return message
        case "code":
            value = await evaluator.evaluate(hook.source, [_to_json(message)], {})
            return _read(value, message)
        case "client":
            answer = await context.ask(
                NewQuestion(
                    "function", hook.source, arguments={"args": [_to_json(message)], "kwargs": {}}, key=key
                )
            )
            if not answer.accepted:
                raise InvalidRequest(
                    f"The client's hook '{hook.source}' failed: {answer.note}", code="client_function_failed"
                )
            return _read(answer.value, message)


def _with_text(message: AgentMessage, text: str) -> AgentMessage:
    """Return the message with a new text, followed by the message's other parts."""
    if isinstance(message.content, str):
        return replace(message, content=text)
    other_parts = [part for part in message.content if part.get("type") != "text"]
    return replace(message, content=[{"type": "text", "text": text}, *other_parts])


def _to_json(message: AgentMessage) -> dict[str, Any]:
    """Return a message in the format that functions receive."""
    document = message.to_json()
    if message.type != ACTION:
        return document
    try:
        parameters = orjson.loads(message.text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The parameters of '{message.receiver}' are not JSON: {error}.") from error
    return {**document, "content": {"name": message.receiver, "parameters": parameters}}


def _read(value: Any, message: AgentMessage) -> AgentMessage:
    """Parse a function's return value: nothing (the message stays unchanged), a text, or a message."""
    if value is None:
        return message
    if message.type == ACTION:
        return _read_action(value, message)
    if isinstance(value, dict):
        return message_of({**message.to_json(), **value}, message.sender)
    return replace(message, content=message_of(value, message.sender).content)


def _read_action(value: Any, message: AgentMessage) -> AgentMessage:
    """Parse a function's return value for an action: a message whose content is the new action, the action itself, or
    the action as JSON.
    """
    if isinstance(value, dict) and "content" in value:
        value = value["content"]
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = None
    parameters = value.get("parameters", value) if isinstance(value, dict) else None
    if not isinstance(parameters, dict) or value.get("name", message.receiver) != message.receiver:
        raise InvalidRequest(
            f"The hook before the action '{message.receiver}' did not return valid JSON: return nothing, or "
            f'{{"name": "{message.receiver}", "parameters": {{…}}}}.',
            code="hook_failed",
        )
    return replace(message, content=orjson.dumps(parameters).decode())
