"""A durable run's call that was under way when the daemon stopped: a person decides whether it is made again."""

from __future__ import annotations

import time

import orjson

from portico_server.core.context import Context
from portico_server.core.question import NewQuestion
from portico_server.core.request import ToolCall, ToolResult
from portico_server.db.steps import StepRow
from portico_server.features.tools.entry import decline
from portico_server.features.tools.tool import Tool
from portico_server.runs.enclosing_step import durable_step
from portico_server.runs.journal import effect_key


async def begin_once(tool: Tool, call: ToolCall, context: Context, limit: float) -> ToolResult | None:
    """Record in the journal that a call begins. If the call began before an interruption of the run, ask first.

    Return ``None`` if the call can be made, otherwise the tool result for the caller. Outside a durable run, nothing
    is recorded.
    """
    step = durable_step(context.run)
    if step is None or step.journal is None or not call.key:
        return None
    run_key = effect_key(context.run, step.turn, "")
    path = f"{call.key.removeprefix(f'{run_key}:')}.begun"
    begun_row = step.journal.find(path)
    times = 0 if begun_row is None else int(orjson.loads(begun_row.output or b"0"))
    if times:
        question = NewQuestion(
            "approval",
            tool.name,
            f"This call of '{tool.title or tool.name}' was under way when the daemon stopped. Make it again?",
            arguments=call.arguments,
            key=f"{call.key}/repeat/{times}",
            limit=limit,
        )
        tool_result = await decline(
            question, context, "was not run again after the daemon had stopped during the call"
        )
        if tool_result is not None:
            return tool_result
    row = StepRow(
        path, step.journal.next(), "begun", "completed", output=str(times + 1), started_at=time.time()
    )
    step.journal.add(row, settle=True, is_announced=False)
    await step.journal.wait_until_written()
    return None
