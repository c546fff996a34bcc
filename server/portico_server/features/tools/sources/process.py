"""Processes that run tools.

Programs get a minimal environment, a guaranteed end and bounded output. Workers with Python functions are replaced
when they hang or exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolCall, ToolResult
from portico_server.features.tools.outcome import outcome
from portico_server.features.tools.sources.function_packages import FunctionPackages
from portico_server.features.tools.sources.spec import ToolSpec
from portico_server.features.tools.tool import Tool
from portico_server.subprocesses import run_script

MAX_OUTPUT_BYTES: Final = 1024 * 1024
"""Maximum size of the standard output and of the error output that are kept, in bytes each; the rest is discarded."""

_HANDED_ON: Final = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR")


KEY_VARIABLE: Final = "PORTICO_IDEMPOTENCY_KEY"
"""Environment variable with the idempotency key of a call. A command has it if the call has a key; a function has it
during the call.
"""


@dataclass(frozen=True, slots=True)
class FinishedProcess:
    """The exit status and the output of a program."""

    code: int
    out: str
    err: str
    truncated: bool


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a tool's program: search path, home folder, language, and the declared variables."""
    return {**{name: os.environ[name] for name in _HANDED_ON if name in os.environ}, **variables}


async def start(
    command: Sequence[str], env: Mapping[str, str], folder: str, *, stdin: int = DEVNULL, stderr: int = PIPE
) -> Process:
    """Start a program in its own session. Raises `PorticoError` with a readable reason if the start fails."""
    try:
        return await asyncio.create_subprocess_exec(
            *_mortal(command),
            stdin=stdin,
            stdout=PIPE,
            stderr=stderr,
            env=environment(env),
            cwd=folder or None,
            start_new_session=True,
            limit=16 * MAX_OUTPUT_BYTES,
        )
    except OSError as error:
        raise PorticoError(
            f"'{command[0]}' cannot be started: {error.strerror or error}.", code="program_failed"
        ) from error


def _mortal(command: Sequence[str]) -> Sequence[str]:
    """Return a command that ends even if the daemon is killed, on systems that support this."""
    guard = shutil.which("setpriv") if sys.platform == "linux" else None
    # if the program is missing, the error must name the program itself
    if guard is None or shutil.which(command[0]) is None:
        return command
    return (guard, "--pdeathsig", "KILL", "--", *command)


async def finish(process: Process) -> FinishedProcess:
    """Read all output of a program until the program ends. If the caller leaves, end the program."""
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        (out, has_more), (err, _has_more) = await asyncio.gather(_read(process.stdout), _read(process.stderr))
        return FinishedProcess(await process.wait(), out, err, has_more)
    finally:
        await end(process)


async def end(process: Process) -> None:
    """Kill a program and everything that it started in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())


async def _read(stream: asyncio.StreamReader) -> tuple[str, bool]:
    kept_output = bytearray()
    total = 0
    while chunk := await stream.read(65_536):
        total += len(chunk)
        kept_output += chunk[: MAX_OUTPUT_BYTES - len(kept_output)]
    return kept_output.decode("utf-8", "replace"), total > MAX_OUTPUT_BYTES


_WORKER: Final = Path(__file__).with_name("worker.py")


class Functions:
    """The functions of a spec, which run one call at a time in a worker process.

    The process starts with the first call and runs until `close`.
    """

    def __init__(self, spec: ToolSpec, packages: FunctionPackages) -> None:
        self._spec = spec
        self._packages = packages
        self._process: Process | None = None
        self._turn = asyncio.Lock()

    async def tools(self) -> list[Tool]:
        """Start the worker and describe its functions. Raises `PorticoError` if a function cannot be found or
        described.
        """
        spec = self._spec
        await self._python()
        try:
            async with self._turn, asyncio.timeout(spec.timeout):
                descriptions = await self._start()
        except TimeoutError as error:
            raise PorticoError(
                f"The import of {spec.function} did not finish within {spec.timeout:g} s.", code="tool_failed"
            ) from error
        return [self._tool(name, description) for name, description in descriptions.items()]

    def _tool(self, function: str, description: Mapping[str, Any]) -> Tool:
        spec = self._spec
        is_whole_module = spec.function.endswith(":*")
        about = description["description"] or f"The function {function}."

        async def work(call: ToolCall, _context: Context) -> ToolResult:
            return await self._call({"function": function, "arguments": call.arguments, "key": call.key})

        return Tool(
            name=f"{spec.name}_{function}" if is_whole_module else spec.name,
            title=function if is_whole_module else spec.name,
            description=about if is_whole_module else spec.description or about,
            input_schema=_with(description["schema"], spec.parameters),
            keyed=work,
            read_only=spec.read_only,
            destructive=not spec.read_only,
            open_world=True,
            timeout=spec.timeout,
            source="function",
        )

    async def _call(self, call: Mapping[str, Any]) -> ToolResult:
        async with self._turn:
            try:
                if self._process is None:
                    await self._start()
                answer = await self._ask(call)
            except PorticoError as error:
                return ToolResult(error.message, is_error=True)
            except BaseException:
                await self.close()  # cancelled during a call
                raise
        if "error" in answer:
            return ToolResult(str(answer["error"]), is_error=True)
        return outcome(answer.get("value"))

    async def _python(self) -> str:
        spec = self._spec
        if spec.requirements:
            return str(await self._packages.python(spec.requirements, spec.python))
        return spec.python

    async def _start(self) -> dict[str, Any]:
        spec = self._spec
        module, _, function = spec.function.partition(":")
        command = run_script(_WORKER, python=await self._python())
        self._process = await start(command, spec.env, spec.folder, stdin=PIPE, stderr=DEVNULL)
        try:
            reply = await self._ask({"module": module, "function": function, "folder": spec.folder})
        except BaseException:
            await self.close()
            raise
        if "error" in reply:
            await self.close()
            raise PorticoError(f"{spec.function} cannot be a tool: {reply['error']}", code="tool_failed")
        functions: dict[str, Any] = reply["functions"]
        return functions

    async def _ask(self, line: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        answer = b""
        with contextlib.suppress(ConnectionError):
            process.stdin.write(json.dumps(line).encode() + b"\n")
            await process.stdin.drain()
            with contextlib.suppress(ValueError):  # the answer is longer than the reader's limit
                answer = await process.stdout.readline()
        try:
            read: dict[str, Any] = json.loads(answer)
        except ValueError as error:
            await self.close()
            raise PorticoError(
                f"The process of '{self._spec.name}' ended during the call, or its answer exceeded the size "
                "limit. The next call restarts it.",
                code="tool_failed",
            ) from error
        return read

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            await end(process)


def _with(schema: dict[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema from the signature, overridden by the operator's parameter schemas."""
    properties = {
        name: {**property_schema, **parameters.get(name, {})}
        for name, property_schema in schema["properties"].items()
    }
    return {**schema, "properties": properties}
