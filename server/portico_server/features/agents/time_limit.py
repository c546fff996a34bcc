"""A time limit that pauses while the run waits for an external answer, such as an approval."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from portico_server.core.context import Context
from portico_server.core.errors import DeadlineExceeded


@asynccontextmanager
async def time_limit(seconds: float | None, context: Context, agent_name: str) -> AsyncIterator[None]:
    """Cancel the body after ``seconds`` and raise `DeadlineExceeded`. ``None`` means no limit."""
    if seconds is None:
        yield
        return
    loop = asyncio.get_running_loop()
    started_at, deadline = loop.time(), context.deadline
    timers: list[asyncio.TimerHandle] = []
    try:
        async with asyncio.timeout(None) as until:

            def look() -> None:
                # Time that a run spends waiting extends its deadline.
                waited_s = 0.0 if deadline is None else (context.deadline or deadline) - deadline
                due = started_at + seconds + waited_s
                timers[:] = [loop.call_at(due, look)] if due > loop.time() else []
                if not timers:
                    until.reschedule(loop.time())

            look()
            try:
                yield
            finally:
                for timer in timers:
                    timer.cancel()
    except TimeoutError as error:
        if not until.expired():
            raise
        raise DeadlineExceeded(
            f"The agent '{agent_name}' did not finish within its limit of {seconds:g} s."
        ) from error
