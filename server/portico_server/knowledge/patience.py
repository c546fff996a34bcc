"""One call of a model, made again while the model fails for the moment."""

from __future__ import annotations

import asyncio

from portico_server.core.context import Context
from portico_server.core.errors import DeadlineExceeded, EngineFailed, TooMany, Unavailable
from portico_server.core.request import Request, Result

ATTEMPTS = 4
"""How often a model that fails for the moment is asked."""

WAIT = 0.5
"""Seconds before it is asked for the second time; twice as long before each further one."""

LONGEST_WAIT = 30.0
"""Seconds that are waited at most, though the model asks for more."""

PATIENCE = 300.0
"""Seconds that one call may take: a model that has to be loaded first, on a machine without a GPU, takes minutes."""


async def ask(context: Context, model: str, request: Request, *, patience: float = PATIENCE) -> Result:
    """The answer of ``model`` within ``patience`` seconds each time. Raises what it raises for good, or the last of its
    passing failures.
    """
    wait = WAIT
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with asyncio.timeout(patience) as limit:
                return await context.call(model, request)
        except (EngineFailed, Unavailable, TooMany, DeadlineExceeded) as error:
            if attempt == ATTEMPTS or error.code == "shutting_down":
                raise
            await asyncio.sleep(min(error.retry_after or wait, LONGEST_WAIT))
            wait *= 2
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded(f"'{model}' did not answer within {patience:g} s.") from error
    raise AssertionError("the last attempt returns or raises")
