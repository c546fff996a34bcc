"""Runs Python that calls the daemon's tools, models, stores and apps; only what it prints or returns comes back."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

import orjson

from portico_server.core import pools
from portico_server.core.addresses import SEEN_ADDRESSES, SeenAddresses
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.origins import ORIGINS, Origins, join_origins
from portico_server.core.registry import Registry
from portico_server.core.request import AppOutput, ChatReply, Result, ToolResult
from portico_server.core.scoped_value import ScopedValue
from portico_server.core.work_slots import Slots
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.tools.builtin.python_light import CODE, RESULT, as_result
from portico_server.features.tools.code_mode.expected_calls import call_digest, expected_calls
from portico_server.features.tools.code_mode.functions import ROOT, RUN_CODE, CodeFunction, functions_of
from portico_server.features.tools.code_mode.program import COMPUTE_SECONDS, MAX_CALLS, Program
from portico_server.features.tools.tool import Tool
from portico_server.runs.enclosing_step import durable_step
from portico_server.runs.turn_steps import STEP_CHANGED, TurnCutOff, TurnSteps

MAX_AT_ONCE: Final = 16
"""Maximum number of pieces of code that run at once, whether it computes or waits for an approval."""

MAX_AT_ONCE_PER_KEY: Final = 8

MAX_ARGUMENTS_BYTES: Final = 2**20
"""Maximum size of the arguments of a call, as JSON, in bytes."""

MAX_READINGS: Final = 8
"""Maximum number of times that the code is read for its expected calls, which own results can add to."""

_NAMED_TOOL: Final = re.compile(r"\btools\s{0,9}\.\s{0,9}([^\W\d]\w*)")

_IS_RUNNING: ContextVar[bool] = ContextVar("portico_run_code", default=False)
"""True within a call that code makes."""


def tool(registry: Registry, light: LightSandbox) -> Tool:
    """Return ``run_code``. ``light`` runs the code of this tool only, because code can wait for hours."""
    slots = Slots(RUN_CODE, MAX_AT_ONCE, MAX_AT_ONCE_PER_KEY)

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        if _IS_RUNNING.get():
            raise InvalidRequest(f"Code cannot call {RUN_CODE}. Call the tools from the code itself.")
        code: str = arguments["code"]
        try:
            async with slots.hold(context.caller.id):
                functions = await _functions(code, context, registry)
                calls = await _CodeCalls.of(code, functions, context)
                evaluated_code = await calls.program.run(light, calls.answer)
        except TurnCutOff as cutoff:
            raise cutoff.error from cutoff
        return as_result(evaluated_code)

    return Tool(
        name=RUN_CODE,
        title="Run code with tools",
        description=(
            "Run Python that calls tools, and get what it prints and the value of its last line; all else stays in the "
            "sandbox. Call portico.tools.NAME(argument=…), portico.models.NAME(messages=[…]), "
            "portico.stores.NAME.search(query=…), portico.apps.NAME(…), with keywords and without await. A failed call "
            "raises RuntimeError. Use it to combine or filter many or large results. The basics of the language with "
            f"math, re, json, csv and datetime, no files, no network; at most {MAX_CALLS:,} calls and "
            f"{COMPUTE_SECONDS:g} seconds of computing."
        ),
        input_schema=CODE,
        output_schema=RESULT,
        work=work,
        group="code",
        composed=True,
        read_only=False,
        destructive=True,
        open_world=True,
        repeat="same_key",  # its own calls are in the journal
    )


async def _functions(code: str, context: Context, registry: Registry) -> Mapping[str, CodeFunction]:
    """Return the functions of code, after its tools that are still starting have started.

    A durable run can have used a tool before it was interrupted, so it waits even if earlier attempts to start the
    tool have failed. Raise `Unavailable` if that takes too long.
    """
    functions = await functions_of(context.caller, registry)
    named_tools = sorted(set(_NAMED_TOOL.findall(code)))
    missing_names = [name for name in named_tools if f"{ROOT}.tools.{name}" not in functions]
    if not missing_names:
        return functions
    late_sources = registry.late_sources
    wait = late_sources.wait_for_start if durable_step(context.run) is None else late_sources.prepared
    for name in missing_names:
        await wait(f"tool/{name}")
    return await functions_of(context.caller, registry)


class _CodeCalls:
    """The calls of one piece of code. In a durable run, each call is a step that is not repeated.

    Once a call has returned foreign data, a further call may follow the data, unless the code makes it whatever data it
    reads; see `expected_calls`.
    """

    def __init__(
        self,
        program: Program,
        functions: Mapping[str, CodeFunction],
        context: Context,
        steps: TurnSteps,
    ) -> None:
        self.program = program
        self._functions = functions
        self._context = context
        self._steps = steps
        self._origins: Origins = ()
        self._addresses = SeenAddresses(SEEN_ADDRESSES.get())
        self._addresses.wrote(program.code)
        self._expected_calls: Counter[bytes] = Counter()
        self._made_calls: Counter[bytes] = Counter()
        self._own_results: dict[bytes, list[Any]] = {}
        """The results that contain no foreign data."""
        self._readings = 0
        self._is_read = False
        """Whether the expected calls take account of all own results."""

    @classmethod
    async def of(cls, code: str, functions: Mapping[str, CodeFunction], context: Context) -> _CodeCalls:
        """Return the calls of ``code``. A repetition in the same run has the same clock and random numbers. Raise
        `TurnCutOff` if the run was interrupted in other code.
        """
        steps = TurnSteps.here(context.run)
        place = steps.place_of("clock")

        async def read_clock() -> float:
            return time.time()

        started_at = await steps.once(
            place,
            "code",
            code,
            read_clock,
            lambda seconds: {"time": seconds},
            lambda record: float(record["time"]),
        )
        program = Program(code, functions, started_at, steps.key(place))
        return cls(program, functions, context, steps)

    async def answer(self, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return ``{"value": …}`` or ``{"error": …}`` for a call. Raise `TurnCutOff`."""
        try:
            arguments = _arguments(path, args, kwargs)
        except InvalidRequest as error:
            return {"error": error.message}
        place = self._steps.place("call")
        origins = await self._origins_of_call(path, arguments)

        async def work() -> dict[str, Any]:
            return await self._call(self._functions[path], arguments, place, origins)

        request = [path, arguments]
        shown_request = {"call": request, "because_of": origins} if origins else None
        document: dict[str, Any] = await self._steps.once(
            place, "tool", request, work, dict, dict, shown_request=shown_request
        )
        self._origins = join_origins(self._origins, document.pop("origins", ()))
        self._addresses.wrote(json.dumps(arguments))
        if not self._functions[path].card.is_composed:
            self._addresses.read(json.dumps(document.get("value")))
        if self._functions[path].is_computed and "value" in document:
            self._own_results.setdefault(call_digest(path, arguments), []).append(document["value"])
            self._is_read = False
        return document

    async def _origins_of_call(self, path: str, arguments: Mapping[str, Any]) -> Origins:
        """Return the origins of the foreign data on which a call may depend."""
        call = call_digest(path, arguments)
        self._made_calls[call] += 1
        if not self._origins:
            return ()
        if not self._is_read and self._is_unexpected(call) and self._readings < MAX_READINGS:
            self._readings, self._is_read = self._readings + 1, True
            code, paths = self.program.code, self._functions.keys()
            self._expected_calls = await pools.VALUES.run(expected_calls, code, paths, self._own_results)
        return self._origins if self._is_unexpected(call) else ()

    def _is_unexpected(self, call: bytes) -> bool:
        return self._made_calls[call] > self._expected_calls[call]

    async def _call(
        self, function: CodeFunction, arguments: Mapping[str, Any], place: str, origins: Origins
    ) -> dict[str, Any]:
        """Return ``{"value": …}`` or ``{"error": …}``, and the ``origins`` of the foreign data in it."""
        result: Result | None = None
        try:
            request = function.request(arguments, self._steps.key(place))
            with (
                ScopedValue(_IS_RUNNING, True),
                ScopedValue(ORIGINS, join_origins(ORIGINS.get(), origins)),
                ScopedValue(SEEN_ADDRESSES, self._addresses),
            ):
                result = await self._context.call(function.card.key, request)
            if isinstance(result, ChatReply | AppOutput):
                await self._context.emit(result.usage)
            document = {"value": _plain(function.path, function.value(result), "The result")}
        except PorticoError as error:
            if error.code == STEP_CHANGED:
                raise TurnCutOff(error) from error
            document = {"error": error.message}
        found_origins = function.origins(arguments, result)
        return {**document, "origins": list(found_origins)} if found_origins else document


def _arguments(path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a call as JSON. Raise `InvalidRequest`."""
    if args:
        raise InvalidRequest(f"{path} takes arguments by name only, such as NAME=VALUE.")
    arguments: Mapping[str, Any] = _plain(path, kwargs, "An argument", MAX_ARGUMENTS_BYTES)
    return arguments


def _plain(path: str, value: Any, noun: str, limit: int | None = None) -> Any:
    """Return a value as JSON has it. Raise `InvalidRequest` if it is not JSON, or larger than ``limit`` bytes."""
    try:
        data = orjson.dumps(value)
    except TypeError as error:
        raise InvalidRequest(f"{noun} of {path} is not JSON: {error}.") from error
    if limit is not None and len(data) > limit:
        raise InvalidRequest(
            f"The arguments of {path} have {len(data):,} bytes; at most {limit:,} are allowed."
        )
    return orjson.loads(data)
