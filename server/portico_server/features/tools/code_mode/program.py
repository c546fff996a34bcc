"""Runs code in the light sandbox and answers its calls one after another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import nearest
from portico_server.features.sandbox.light import EvaluatedCode, LightSandbox, valid_text
from portico_server.features.tools.code_mode.functions import ROOT

if TYPE_CHECKING:
    from pydantic_monty import AsyncMontySession, CollectString, ExternalModule, ExternalResult

MAX_CALLS: Final = 1_000
"""Maximum number of calls of one piece of code."""

COMPUTE_SECONDS: Final = 60.0
"""Maximum time that code computes, in seconds. The time of its calls does not count."""

MAX_MEMORY_BYTES: Final = 128 * 2**20
"""Maximum heap of the code, in bytes."""

Answer: TypeAlias = Callable[[str, tuple[Any, ...], Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Receives the path of a function and the arguments of a call. Returns ``{"value": …}`` or ``{"error": …}``."""


@dataclass(frozen=True, slots=True)
class Program:
    """Code that calls functions. ``paths`` are the functions; the clock of the code shows ``time``, in seconds since
    1970, and its random numbers follow from ``seed``.
    """

    code: str
    paths: Collection[str]
    time: float
    seed: str

    async def run(self, light: LightSandbox, answer: Answer) -> EvaluatedCode:
        """Run the code. Errors in the code are part of the result; errors of ``answer`` end it."""

        from pydantic_monty import AsyncFunctionSnapshot, MontyComplete

        async def feed(session: AsyncMontySession, output: CollectString) -> Any:
            await session.feed_run(f"import {ROOT}")
            snapshot: Any = await session.feed_start(valid_text(self.code), print_callback=output)
            while not isinstance(snapshot, MontyComplete):
                if isinstance(snapshot, AsyncFunctionSnapshot) and not snapshot.is_os_function:
                    result = await self._result(
                        snapshot.function_name, snapshot.args, snapshot.kwargs, answer
                    )
                    snapshot = await snapshot.resume(result)
                else:
                    snapshot = await snapshot.resume_auto()
            return snapshot.output

        return await light.converse(
            feed,
            limits={
                "max_feed_duration_secs": COMPUTE_SECONDS,
                "max_memory": MAX_MEMORY_BYTES,
                "max_suspensions": MAX_CALLS,
            },
            os_policy={
                "datetime": datetime.fromtimestamp(self.time, UTC),
                "random_start": {"seed": self.seed},
            },
            external_modules={ROOT: _module(self.paths)},
        )

    async def _result(
        self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], answer: Answer
    ) -> ExternalResult:
        # The interpreter can be compromised, so the name can be any text.
        if name not in self.paths:
            return {
                "exc_type": "NameError",
                "message": f"name '{name[:100]}' is not defined.{nearest(name, self.paths)}",
            }
        document = await answer(name, args, kwargs)
        if "error" in document:
            return {"exc_type": "RuntimeError", "message": document["error"]}
        return {"return_value": document["value"]}


def _module(paths: Collection[str]) -> ExternalModule:
    """Return the module that has a function at each of the paths."""
    from pydantic_monty import ExternalModule

    tree: dict[str, Any] = {f"{group}s": {} for group in ("tool", "model", "store", "app")}
    for path in paths:
        *groups, name = path.split(".")[1:]
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[name] = _paused

    def module(attributes: Mapping[str, Any]) -> ExternalModule:
        return ExternalModule(
            {name: module(value) if isinstance(value, dict) else value for name, value in attributes.items()}
        )

    return module(tree)


def _paused() -> None:
    """Stand for a function in the interpreter, which pauses at its call."""
