"""Tools for models without native function calling: calls are parsed from the answer's text, and results are sent as
text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import orjson

from portico_server.core.prompts import builtin
from portico_server.core.request import CalledTool, ChatReply
from portico_server.features.agents.calling import act
from portico_server.features.agents.message import AgentMessage
from portico_server.features.agents.model_messages import RESULT
from portico_server.features.agents.output import with_stops
from portico_server.features.agents.turn import AgentTurn

_OBSERVED: Final = "Observation: {text}\n"
_BLOCK: Final = re.compile(r"```(?:json|tool)?[ \t]*\n\s*(\{.*?\})\s*(?:```|\Z)", re.S)
_NAMED: Final = re.compile(r'"name"\s*:\s*"([^"\\]{1,64})"')
_ACTION: Final = re.compile(
    r"Action:[ \t]*([^\n]+?)[ \t]*\n+Action Input:[ \t]*(.*?)\s*(?:\nObservation:|\Z)", re.S
)
_FINAL: Final = "Final Answer:"
Found = tuple[CalledTool, str]
"""A call, and the text up to the end of the call. Text that the model invented after the call is dropped."""


async def text_tools(turn: AgentTurn) -> AgentMessage:
    """Use tools whose calls the model writes as JSON blocks in its text."""
    use_tools = turn.tools.describe()
    turn.note = builtin.text("agent-text-tools", tools=use_tools) if turn.tools.by_name else ""
    return await _textual(turn, _block, RESULT, "\nResult of ")


async def react(turn: AgentTurn) -> AgentMessage:
    """Alternate thought, action and observation (Yao et al. 2022)."""
    turn.note = builtin.text("agent-react", tools=turn.tools.describe())
    return await _textual(turn, _react_action, _OBSERVED, "\nObservation:")


async def _textual(
    turn: AgentTurn, call_in: Callable[[str], Found | None], result: str, stop: str
) -> AgentMessage:
    options = with_stops(turn.options(is_constrained=not turn.tools.by_name), [stop])

    async def propose(memory: Sequence[AgentMessage]) -> ChatReply:
        reply = await turn.ask_without_data(memory, options, result=result)
        call_and_rest = call_in(reply.content)
        return ChatReply("") if call_and_rest is None else ChatReply("", tool_calls=(call_and_rest[0],))

    while True:
        messages = await turn.messages(result=result)
        reply = await turn.ask(messages, options)
        call_and_rest = call_in(reply.content) if turn.tools.by_name else None
        if call_and_rest is None:
            answer = reply.content.rpartition(_FINAL)[2].strip() if _FINAL in reply.content else reply.content
            return await turn.answer(replace(reply, content=answer), messages)
        call, text = call_and_rest
        agent_message = await act(turn, text, [call], propose)
        if agent_message is not None:
            return agent_message


def _block(text: str) -> Found | None:
    """Return the first block that names a tool, as a call. If a block contains invalid JSON, the call has arguments
    that cannot be parsed.
    """
    for match in _BLOCK.finditer(text):
        inner = match.group(1)
        named_match = _NAMED.search(inner)
        try:
            value = orjson.loads(inner)
        except orjson.JSONDecodeError:
            if named_match is not None:
                return CalledTool("", named_match.group(1), inner), text[: match.end()]
            continue
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            parameters = value.get("parameters", value.get("arguments", {}))
            arguments = parameters if isinstance(parameters, str) else orjson.dumps(parameters).decode()
            return CalledTool("", value["name"], arguments), text[: match.end()]
    return None


def _react_action(text: str) -> Found | None:
    match = _ACTION.search(text.partition(_FINAL)[0])
    if match is None:
        return None
    arguments = match.group(2).strip().removeprefix("```json").strip("`").strip() or "{}"
    return CalledTool("", match.group(1).strip(), arguments), text[: match.end(2)]
