"""Execution of tool calls, and the strategy that uses the model's native function calling."""

from __future__ import annotations

from collections.abc import Sequence

from portico_server.apps.agent.message import STEP, TOOL_CALL, AgentMessage
from portico_server.apps.agent.tools import as_messages_have_them, with_unique_ids
from portico_server.apps.agent.turn import AgentTurn
from portico_server.core.request import CalledTool


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
    while True:
        messages = await turn.messages()
        reply = await turn.ask(messages, options, tools=turn.tools.functions, is_spoken=not step)
        if not reply.tool_calls:
            if step:
                return AgentMessage(turn.spec.name, reply.content, type=STEP)
            return await turn.answer(reply, messages)
        agent_message = await act(turn, reply.content, reply.tool_calls)
        if agent_message is not None:
            return agent_message


async def act(turn: AgentTurn, thought_text: str, calls: Sequence[CalledTool]) -> AgentMessage | None:
    """Run all tool calls concurrently and add their results in the order of the calls. If another agent took over,
    return its answer.

    Raise `InvalidRequest` with the code ``agent_limit`` if the calls exceed the agent's limit.
    """
    if turn.tools.count + len(calls) > turn.spec.limits.tool_calls:
        raise turn.endless()
    calls = with_unique_ids(calls, turn.steps.call_id)
    about = {"tool_calls": as_messages_have_them(calls)}
    await turn.remember(AgentMessage(turn.spec.name, thought_text, type=TOOL_CALL, extra_info=about))
    results = await turn.tools.use_all(calls)
    for message, _tool_result in results:
        await turn.remember(message)
    return next(
        (tool_result.handed for _message, tool_result in results if tool_result.handed is not None), None
    )
