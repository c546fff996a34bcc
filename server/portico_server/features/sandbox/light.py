"""The light sandbox: a special Python interpreter (pydantic-monty) without files, network or environment."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, shutting_down
from portico_server.core.work_slots import FairSlots

if TYPE_CHECKING:
    from pydantic_monty import AsyncMonty, AsyncMontySession, CollectString, ResourceLimits

SECONDS: Final = 5.0
"""Maximum run time of a piece of code, in seconds."""

MAX_MEMORY_BYTES: Final = 64 * 2**20
"""Maximum heap of the interpreter, in bytes."""

MAX_OUTPUT_BYTES: Final = 256 * 2**10
"""Maximum printed output, in bytes."""

MAX_VALUE_CHARS: Final = 64 * 2**10
"""Maximum characters of the value's text that are returned."""

MAX_REMEMBERED_SOURCES_COUNT: Final = 4096
"""Maximum number of sources for which the sandbox remembers that the interpreter can run them."""

WORKERS: Final = 4
"""Maximum number of interpreter processes; each runs one piece of code at a time, in a clean state."""


@dataclass(frozen=True, slots=True)
class EvaluatedCode:
    """The output of a piece of code, the text of its last expression's value, and the error that ended it."""

    output: str = ""
    value: str | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """Return the output, the value and the error as text for a model."""
        parts = [part for part in (self.output.rstrip("\n"), self.value, self.error) if part]
        return "\n".join(parts) or "Done. The code printed nothing, and the last line has no value."


class LightSandbox:
    """Up to ``workers`` interpreters, by default `WORKERS`, started by the first call. Each further call takes less
    than a millisecond.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = WORKERS if workers is None else workers
        self._pool: AsyncMonty | None = None
        self._stack = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._is_closed = False
        self._sound: set[str] = set()
        self._slots = FairSlots(self._workers)

    async def run(self, code: str) -> EvaluatedCode:
        """Run ``code`` in a clean state. Errors in the code are part of the result."""

        async def feed(session: AsyncMontySession, output: CollectString) -> Any:
            return await session.feed_run(valid_text(code), print_callback=output)

        return await self.converse(feed, limits=_limits())

    async def converse(
        self, feed: Callable[[AsyncMontySession, CollectString], Awaitable[Any]], **options: Any
    ) -> EvaluatedCode:
        """Return what ``feed`` evaluates in a clean session, and what it prints. ``options`` are those of the session.
        Errors in the code are part of the result.
        """
        from pydantic_monty import CollectString, MontyError

        collect_string = CollectString(MAX_OUTPUT_BYTES)
        try:
            async with self._session(**options) as session:
                value = await feed(session, collect_string)
        except MontyError as error:
            return EvaluatedCode(collect_string.output, error=_explain(error))
        except (ValueError, OverflowError, RecursionError) as error:
            # The value left the interpreter but cannot be shown, such as an integer of a million digits or a
            # circular reference.
            return EvaluatedCode(collect_string.output, error=f"The value cannot be shown: {error}")
        return EvaluatedCode(collect_string.output, value=_to_text(value))

    @asynccontextmanager
    async def _session(self, **options: Any) -> AsyncIterator[AsyncMontySession]:
        pool = self._pool or await self._start()
        async with self._slots.hold(), pool.checkout(**options) as session:
            yield session

    async def evaluate(self, source: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Implement `portico_server.core.interfaces.Evaluator`: call the function or lambda in ``source``."""
        return await self._feed(calling(source), {"portico_args": list(args), "portico_kwargs": dict(kwargs)})

    async def evaluate_all(
        self, source: str, calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]
    ) -> list[Any]:
        """Make several calls in one interpreter."""
        # Passing a value to the interpreter takes longer than calling a small function, so only the necessary
        # values are passed.
        inputs: list[Any]
        if any(kwargs for _args, kwargs in calls):
            call_pattern, inputs = (
                "*portico_call[0], **portico_call[1]",
                [[list(a), dict(k)] for a, k in calls],
            )
        elif all(len(args) == 1 for args, _kwargs in calls):
            call_pattern, inputs = "portico_call", [args[0] for args, _kwargs in calls]
        else:
            call_pattern, inputs = "*portico_call", [list(args) for args, _kwargs in calls]
        values: list[Any] = await self._feed(calling_all(source, call_pattern), {"portico_calls": inputs})
        return values

    async def check(self, source: str) -> None:
        """Define the function in ``source`` without calling it. Raise `InvalidRequest` for syntax that the interpreter
        does not support.
        """
        if source in self._sound:
            return
        before, name = _split_expression(source)
        await self._feed(f"{before}{name}\nNone", {})
        if len(self._sound) >= MAX_REMEMBERED_SOURCES_COUNT:
            self._sound.clear()
        self._sound.add(source)

    async def _feed(self, code: str, inputs: Mapping[str, Any]) -> Any:
        from pydantic_monty import CollectString, MontyError

        try:
            async with self._session(limits=_limits()) as session:
                return await session.feed_run(
                    valid_text(code), inputs=dict(inputs), print_callback=CollectString(MAX_OUTPUT_BYTES)
                )
        except MontyError as error:
            raise InvalidRequest(f"The code failed: {_explain(error)}", code="code_failed") from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InvalidRequest(
                f"A value cannot be passed into or out of the sandbox: {error}", code="not_json"
            ) from error

    async def close(self) -> None:
        """Stop the interpreters."""
        self._is_closed = True
        self._pool = None
        await self._stack.aclose()

    async def _start(self) -> AsyncMonty:
        from pydantic_monty import AsyncMonty

        async with self._starting:
            if self._is_closed:
                raise shutting_down()
            if self._pool is None:
                self._pool = await self._stack.enter_async_context(
                    AsyncMonty(min_processes=1, max_processes=self._workers)
                )
            return self._pool


@lru_cache(maxsize=512)
def calling(source: str) -> str:
    """Return ``source`` followed by a call of its lambda, or of the last function that it defines."""
    before, name = _split_expression(source)
    return f"{before}{name}(*portico_args, **portico_kwargs)"


@lru_cache(maxsize=512)
def calling_all(source: str, call_pattern: str) -> str:
    """Return ``source`` followed by a call for each ``portico_call``. ``call_pattern`` is the form of the call's
    arguments.
    """
    before, name = _split_expression(source)
    return f"{before}portico_function = {name}\n[portico_function({call_pattern}) for portico_call in portico_calls]"


def _split_expression(source: str) -> tuple[str, str]:
    """Return the code before a function, and the expression of the function.

    Raise `InvalidRequest` if the source contains no function.
    """
    try:
        body = ast.parse(source.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidRequest(f"The code is not valid Python: {error}.", code="invalid_code") from error
    match body[-1] if body else None:
        case ast.Expr(value=ast.Lambda() | ast.Name()) as last:
            lines = source.strip().split("\n")
            before, text = lines[: last.lineno - 1], "\n".join(lines[last.lineno - 1 :])
            if last.col_offset == 0:
                return "".join(f"{line}\n" for line in before), f"({text}\n)"
        case ast.FunctionDef(name=name):
            return f"{source.strip()}\n\n", name
    raise InvalidRequest(
        "Code must be a lambda, or end with the definition of a function, which is then called.",
        code="invalid_code",
    )


def valid_text(code: str) -> str:
    """Return the code without halves of surrogate pairs, which JSON can contain."""
    return code.encode("utf-8", "replace").decode()


def _limits() -> ResourceLimits:
    return {
        "max_feed_duration_secs": SECONDS,
        "max_total_sleep_secs": SECONDS,
        "max_memory": MAX_MEMORY_BYTES,
    }


def _explain(error: Any) -> str:
    """Return Python's own error message, with the traceback if there is one."""
    show = getattr(error, "display", None)
    text = str(show("traceback")) if show else str(error)
    return text.rstrip()[-MAX_VALUE_CHARS:]


def _to_text(value: Any) -> str | None:
    """Return a value as text: strings unchanged, everything else as Python prints it."""
    if value is None:
        return None
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError) as error:
        text = f"<{type(value).__name__} that cannot be shown: {error}>"
    if len(text) > MAX_VALUE_CHARS:
        return f"{text[:MAX_VALUE_CHARS]}\n[truncated: {len(text)} characters in total]"
    return text
