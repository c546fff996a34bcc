"""The light level: a Python interpreter of its own kind (pydantic-monty) without files, network or environment."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from portico_server.core.errors import Unavailable

if TYPE_CHECKING:
    from pydantic_monty import AsyncMonty, ResourceLimits

SECONDS: Final = 5.0
"""Longest that a piece of code may run."""

MEMORY: Final = 64 * 2**20
"""Bytes of its heap."""

OUTPUT: Final = 256 * 2**10
"""Bytes that it may print."""

SHOWN: Final = 64 * 2**10
"""Characters of the value's text that are passed on."""

WORKERS: Final = 4
"""Interpreter processes at most; one piece of code at a time in each, a clean one for every piece."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a piece of code printed, the text of its last expression's value, and the error that ended it."""

    output: str = ""
    value: str | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """All of it, for a model to read."""
        parts = [part for part in (self.output.rstrip("\n"), self.value, self.error) if part]
        return "\n".join(parts) or "Done. Nothing was printed and the last line has no value."


class Light:
    """Interpreters, started with the first call. A call costs less than a millisecond."""

    def __init__(self) -> None:
        self._pool: AsyncMonty | None = None
        self._stack = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._closed = False

    async def run(self, code: str) -> Evaluation:
        """Run ``code`` from scratch; whatever goes wrong in it is an evaluation."""
        from pydantic_monty import CollectString, MontyError

        pool = self._pool or await self._start()
        printed = CollectString(OUTPUT)
        try:
            async with pool.checkout(limits=_limits()) as session:
                value = await session.feed_run(_text(code), print_callback=printed)
        except MontyError as error:
            return Evaluation(printed.output, error=_explain(error))
        except (ValueError, OverflowError, RecursionError) as error:
            # The value came out of the interpreter but has no form here: an integer of a million digits, a circle.
            return Evaluation(printed.output, error=f"The value cannot be shown: {error}")
        return Evaluation(printed.output, value=_shown(value))

    async def close(self) -> None:
        """End the interpreters."""
        self._closed = True
        self._pool = None
        await self._stack.aclose()

    async def _start(self) -> AsyncMonty:
        from pydantic_monty import AsyncMonty

        async with self._starting:
            if self._closed:
                raise Unavailable("Portico is shutting down.", code="shutting_down")
            if self._pool is None:
                self._pool = await self._stack.enter_async_context(
                    AsyncMonty(min_processes=1, max_processes=WORKERS)
                )
            return self._pool


def _text(code: str) -> str:
    # JSON can carry half a surrogate pair, which is no text.
    return code.encode("utf-8", "replace").decode()


def _limits() -> ResourceLimits:
    return {"max_feed_duration_secs": SECONDS, "max_total_sleep_secs": SECONDS, "max_memory": MEMORY}


def _explain(error: Any) -> str:
    """Python's own words: the traceback where there is one."""
    show = getattr(error, "display", None)
    text = str(show("traceback")) if show else str(error)
    return text.rstrip()[-SHOWN:]


def _shown(value: Any) -> str | None:
    """A value as text: strings as they are, everything else as Python writes it."""
    if value is None:
        return None
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError) as error:
        text = f"<{type(value).__name__} that cannot be shown: {error}>"
    if len(text) > SHOWN:
        return f"{text[:SHOWN]}\n[cut off here: {len(text)} characters in all]"
    return text


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as a tool's structured result."""
    return asdict(evaluation)
