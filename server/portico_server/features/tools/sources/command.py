"""Commands with placeholders for arguments. No shell is involved: each argument of a call becomes exactly one argument
of the program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolCall, ToolResult
from portico_server.core.secret_values import SECRET_NAME
from portico_server.features.tools.sources.process import KEY_VARIABLE, finish, start
from portico_server.features.tools.sources.spec import PLACEHOLDER, ToolSpec
from portico_server.features.tools.tool import MAX_TEXT_CHARS, Tool

_SHARE: Final = MAX_TEXT_CHARS // 2
"""Maximum length of each output stream in the structured result, in characters."""

_PLAIN: Final = re.compile(r"-[A-Z]|-{0,2}[a-z][a-z-]{0,30}|\{\w+\}")
"""An ordinary word, an option, or a placeholder."""

_OUTPUT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "exit_code": {"type": "integer"},
        "stdout": {"type": "string"},
        "stderr": {"type": "string"},
        "truncated": {"type": "boolean"},
    },
    "required": ["exit_code", "stdout", "stderr", "truncated"],
}


def tool_of(spec: ToolSpec) -> Tool:
    """Return the tool for a command. Placeholders without a schema accept text. Placeholders with a default are
    optional.
    """
    properties = {name: dict(spec.parameters.get(name, {"type": "string"})) for name in spec.placeholders}

    async def work(call: ToolCall, _context: Context) -> ToolResult:
        try:
            command = [part for template in _fill(spec, call.arguments) for part in template]
            env = {**spec.env, KEY_VARIABLE: call.key} if call.key else spec.env
            finished_process = await finish(await start(command, env, spec.folder))
        except PorticoError as error:
            return ToolResult(error.message, is_error=True)
        cut = "\n[cut off here]" if finished_process.truncated else ""
        text = (
            finished_process.out + cut
            if finished_process.code == 0
            else f"Exit code {finished_process.code}.\n{finished_process.err or finished_process.out}{cut}"
        )
        # The text contains the full output, which is stored if it is long. The structured result must fit
        # into an answer.
        result_document = {
            "exit_code": finished_process.code,
            "stdout": finished_process.out[:_SHARE],
            "stderr": finished_process.err[:_SHARE],
            "truncated": finished_process.truncated
            or max(len(finished_process.out), len(finished_process.err)) > _SHARE,
        }
        return ToolResult(text, result_document, is_error=finished_process.code != 0)

    return Tool(
        name=spec.name,
        title=spec.name,
        description=spec.description or f"Run {_mask_arguments(spec.command)}",
        input_schema={
            "type": "object",
            "properties": properties,
            "required": [name for name, schema in properties.items() if "default" not in schema],
            "additionalProperties": False,
        },
        output_schema=_OUTPUT,
        keyed=work,
        read_only=spec.read_only,
        destructive=not spec.read_only,
        open_world=True,
        timeout=spec.timeout,
        source="command",
    )


def _mask_arguments(command: Sequence[str]) -> str:
    """Return a command for models. Arguments that may contain a secret or a path become ``…``."""
    parts = [Path(command[0]).name]
    for before, argument in pairwise(command):
        is_plain = _PLAIN.fullmatch(argument) and SECRET_NAME.search(before) is None
        parts.append(argument if is_plain else "…")
    return " ".join(parts)


def _fill(spec: ToolSpec, arguments: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the arguments of the program, template by template.

    Raises `PorticoError` if an argument of the call would become an option of the program.
    """
    values = {
        name: arguments.get(name, spec.parameters.get(name, {}).get("default")) for name in spec.placeholders
    }
    options_end = False
    for template in spec.command:
        whole = PLACEHOLDER.fullmatch(template)
        if whole is None:
            options_end = options_end or template == "--"
            yield [PLACEHOLDER.sub(lambda match: _text(values[match[1]]), template)]
            continue
        value = values[whole[1]]
        given_arguments = (
            [_text(item) for item in value]
            if isinstance(value, list)
            else []
            if value is None
            else [_text(value)]
        )
        for argument in given_arguments:
            if argument.startswith("-") and not options_end and isinstance(value, str | list):
                raise PorticoError(
                    f"The argument '{whole[1]}' must not begin with '-': the program would read it as an "
                    "option.",
                    code="invalid_arguments",
                )
            if "\0" in argument:
                raise PorticoError(
                    f"The argument '{whole[1]}' contains a NUL character.", code="invalid_arguments"
                )
        yield given_arguments


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
