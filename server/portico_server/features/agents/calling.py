"""Execution of tool calls, and the strategy that uses the model's native function calling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from portico_server.core.origins import Origins, join_origins
from portico_server.core.request import CalledTool, ChatReply
from portico_server.features.agents.foreign_data import (
    MAX_REHEARSED_CALLS,
    WITHHELD,
    Propose,
    with_origins,
    withhold,
)
from portico_server.features.agents.message import STEP, TOOL_CALL, TOOL_RESULT, AgentMessage
from portico_server.features.agents.tools import as_messages_have_them, with_unique_ids
from portico_server.features.agents.turn import AgentTurn


async def use_tools(turn: AgentTurn) -> AgentMessage:
    """Use the model's native function calling: alternate between tool calls and results until the model answers
    without a call.
    """
    return await call_tools(turn)


async def call_tools(turn: AgentTurn, *, step: bool = False) -> AgentMessage:
    """Run the loop of `use_tools`. With ``step``, the result is an intermediate step: it is not streamed and need not
    match the output format.
    """
    # If a schema constrained every token of the answer, the model could not call a tool.
    options = turn.plain_options if step else turn.options(is_constrained=not turn.tools.by_name)

    async def propose(memory: Sequence[AgentMessage]) -> ChatReply:
        return await turn.ask_without_data(memory, options, tools=turn.tools.functions)

    while True:
        messages = await turn.messages()
        reply = await turn.ask(messages, options, tools=turn.tools.functions, is_spoken=not step)
        if not reply.tool_calls:
            if step:
                return AgentMessage(turn.spec.name, reply.content, type=STEP)
            return await turn.answer(reply, messages)
        agent_message = await act(turn, reply.content, reply.tool_calls, propose)
        if agent_message is not None:
            return agent_message


async def act(
    turn: AgentTurn, thought_text: str, calls: Sequence[CalledTool], propose: Propose
) -> AgentMessage | None:
    """Run all tool calls concurrently and add their results in the order of the calls. If another agent took over,
    return its answer. ``propose`` asks the model again without foreign data.

    Raise `InvalidRequest` with the code ``agent_limit`` if the calls exceed the agent's limit.
    """
    if turn.tools.count + len(calls) > turn.spec.limits.tool_calls:
        raise turn.endless()
    calls = with_unique_ids(calls, turn.steps.call_id)
    origins = await _call_origins(turn, calls, propose)
    about = {"tool_calls": as_messages_have_them(calls)}
    message = AgentMessage(turn.spec.name, thought_text, type=TOOL_CALL, extra_info=about)
    await turn.remember(with_origins(message, join_origins(*origins)))
    results = await turn.tools.use_all(calls, origins)
    for message, _tool_result in results:
        await turn.remember(message)
    return next(
        (tool_result.handed for _message, tool_result in results if tool_result.handed is not None), None
    )


async def _call_origins(turn: AgentTurn, calls: Sequence[CalledTool], propose: Propose) -> list[Origins]:
    """Return, for each call, the origins of the foreign data on which it may depend."""
    memory = await turn.session.memory(turn.path)
    turn.tools.see(memory)
    if not turn.origins or not turn.tools.is_guarded(calls):
        return [turn.origins] * len(calls)
    remaining_calls = Counter(map(_identity, await _rehearse(turn, propose)))
    # The model without data does not know of the calls that depended on data, so it can propose one of them again.
    remaining_calls.subtract(_earlier_calls(memory))
    origins: list[Origins] = []
    for call in calls:
        key = _identity(call)
        remaining_calls[key] -= 1
        origins.append(() if remaining_calls[key] >= 0 else turn.origins)
    return origins


async def _rehearse(turn: AgentTurn, propose: Propose) -> Sequence[CalledTool]:
    """Return the guarded calls that the model makes when all foreign data is withheld. Earlier calls that only read are
    not executed: their results are withheld too.
    """
    memory = withhold(turn.recalled_memory.messages)
    for _ in range(MAX_REHEARSED_CALLS):
        reply = await propose(memory)
        if not reply.tool_calls or turn.tools.is_guarded(reply.tool_calls):
            return reply.tool_calls
        calls = with_unique_ids(reply.tool_calls, turn.steps.call_id)
        about = {"tool_calls": as_messages_have_them(calls)}
        memory.append(AgentMessage(turn.spec.name, reply.content, type=TOOL_CALL, extra_info=about))
        memory += [
            AgentMessage(call.name, WITHHELD, type=TOOL_RESULT, extra_info={"tool_call_id": call.id})
            for call in calls
        ]
    return ()


def _earlier_calls(memory: Iterable[AgentMessage]) -> list[tuple[str, Any]]:
    """Return the calls in a memory that may have depended on foreign data."""
    return [
        _identity(CalledTool("", call["function"]["name"], call["function"]["arguments"]))
        for message in memory
        if message.type == TOOL_CALL and (message.extra_info or {}).get("origins")
        for call in (message.extra_info or {}).get("tool_calls", ())
    ]


def _identity(call: CalledTool) -> tuple[str, bytes | str]:
    """Return a value that is the same for calls of one tool with the same arguments."""
    try:
        return call.name, orjson.dumps(orjson.loads(call.arguments or "{}"), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        return call.name, call.arguments
