"""Runs commands and applies patches in the working folder of a sandboxed notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.request import ToolResult
from portico_server.features.sandbox import patch
from portico_server.features.sandbox.containers import ContainerService
from portico_server.features.sandbox.protocol import (
    MAX_COMMANDS,
    Cell,
    CellOutcome,
    CommandResult,
    SandboxLimits,
    is_path,
)
from portico_server.features.skills.library import SKILLS_SCHEMA, SkillLibrary
from portico_server.features.tools.artifact import ARTIFACT
from portico_server.features.tools.builtin.code_interpreter import FILES_SCHEMA, SESSION, read_files
from portico_server.features.tools.tool import Tool
from portico_server.runs.artifacts import ArtifactStore

MAX_COMMAND_CHARS: Final = 100_000
MIN_TIMEOUT_MS: Final = 1


def tool(
    containers: ContainerService, artifacts: ArtifactStore, skills: SkillLibrary, limits: SandboxLimits
) -> Tool:
    """Return ``shell``, which runs commands one after another."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        reason = await containers.missing()
        if reason is not None:
            return ToolResult(reason, is_error=True)
        cell = Cell(
            "",
            await read_files(arguments.get("files") or (), artifacts, context),
            await skills.folders(arguments.get("skills") or (), context.caller),
            commands=tuple(arguments["commands"]),
            seconds=arguments["timeout_ms"] / 1_000 if "timeout_ms" in arguments else None,
        )
        outcome, new_artifacts = await containers.run(arguments.get("session"), cell, context)
        max_chars = arguments.get("max_output_length")
        results = [_cut(result, max_chars) for result in outcome.results]
        parts = [_as_text(result) for result in results]
        parts += [outcome.error or "", *outcome.notes]
        parts += [f"Made {item.name} ({item.bytes} bytes): {item.link}" for item in new_artifacts]
        structured_content = {
            "results": [
                {
                    "stdout": command_result.stdout,
                    "stderr": command_result.stderr,
                    "exit_code": command_result.exit_code,
                }
                for command_result in results
            ],
            "notes": list(outcome.notes),
            "artifacts": [asdict(item) for item in new_artifacts],
        }
        text = "\n".join(filter(None, parts))
        if outcome.error is not None and not results:
            return ToolResult(text, is_error=True)
        return ToolResult(text, structured_content, artifacts=new_artifacts)

    return Tool(
        name="shell",
        title="Shell",
        description=(
            "Run commands of a shell, one after the other, in a working folder of their own with Python, numpy, pandas "
            "and the usual programs. No network. Calls with the same 'session' share the folder. The folders of "
            f"'skills' are at /skills/NAME, read-only. All commands of a call may take {limits.seconds:g} seconds."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "commands": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_COMMANDS,
                    "items": {"type": "string", "minLength": 1, "maxLength": MAX_COMMAND_CHARS},
                },
                "timeout_ms": {"type": "integer", "minimum": MIN_TIMEOUT_MS},
                "max_output_length": {
                    "type": "integer",
                    "minimum": 0,
                    "description": "Characters of each command's output that are returned.",
                },
                "session": SESSION,
                "skills": SKILLS_SCHEMA,
                "files": FILES_SCHEMA,
            },
            "required": ["commands"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "results": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "stdout": {"type": "string"},
                            "stderr": {"type": "string"},
                            "exit_code": {
                                "type": ["integer", "null"],
                                "description": "Null for a command that took too long.",
                            },
                        },
                        "required": ["stdout", "stderr", "exit_code"],
                    },
                },
                "notes": {"type": "array", "items": {"type": "string"}},
                "artifacts": {"type": "array", "items": ARTIFACT},
            },
            "required": ["results", "notes", "artifacts"],
        },
        work=work,
        group="code",
        composed=True,
        read_only=False,
    )


def patch_tool(containers: ContainerService) -> Tool:
    """Return ``apply_patch``, which creates, changes or deletes a file in the working folder of a session."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        reason = await containers.missing()
        if reason is not None:
            return ToolResult(reason, is_error=True)
        kind, path = arguments["type"], _plain(arguments["path"])
        session, diff = arguments["session"], arguments.get("diff", "")
        if kind == "delete_file":
            outcome, _ = await containers.run(session, Cell("", remove=path), context)
            return _to_result(outcome, f"Deleted {path}.", path)
        if kind == "create_file":
            text = await pools.FILES.run(patch.created, diff)
        else:
            cell_outcome, _ = await containers.run(session, Cell("", fetch=path), context)
            if cell_outcome.error is not None or not cell_outcome.products:
                return _to_result(cell_outcome, "", path)
            before = cell_outcome.products[0].data.decode("utf-8", "surrogateescape")
            text = await pools.FILES.run(patch.patched, before, diff)
        data = text.encode("utf-8", "surrogateescape")
        outcome, _ = await containers.run(session, Cell("", {path: data}), context, source="assistant")
        return _to_result(outcome, f"{'Created' if kind == 'create_file' else 'Updated'} {path}.", path)

    return Tool(
        name="apply_patch",
        title="Apply a patch",
        description=(
            "Create, update or delete a file in the working folder of a session of shell and code_interpreter. 'diff' "
            "has the lines of a new file, each behind '+', or hunks: '@@' and perhaps a line above the place, then "
            "lines that stay behind ' ', that go behind '-', that come behind '+'."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["create_file", "update_file", "delete_file"]},
                "path": {"type": "string", "minLength": 1, "maxLength": 255},
                "diff": {"type": "string", "maxLength": patch.MAX_DIFF_CHARS},
                "session": SESSION,
            },
            "required": ["type", "path", "session"],
            "additionalProperties": False,
        },
        work=work,
        group="code",
        composed=True,
        read_only=False,
    )


def _cut(result: CommandResult, limit: int | None) -> CommandResult:
    """Shorten a command's output to ``limit`` characters, with its errors last."""
    if limit is None:
        return result
    out = result.stdout[:limit]
    return CommandResult(out, result.stderr[: limit - len(out)], result.exit_code)


def _as_text(result: CommandResult) -> str:
    end = "took too long and was stopped" if result.exit_code is None else f"exit status {result.exit_code}"
    return "\n".join(filter(None, (result.stdout.rstrip("\n"), result.stderr.rstrip("\n"), f"[{end}]")))


def _to_result(outcome: CellOutcome, done_text: str, path: str) -> ToolResult:
    if outcome.error is not None:
        missing = "FileNotFoundError" in outcome.error
        reason = f"the file '{path}' does not exist in the working folder" if missing else outcome.error
        return ToolResult(f"The patch does not apply: {reason}.", is_error=True)
    return ToolResult(done_text)


def _plain(path: str) -> str:
    """Return a path within the working folder. Raise `InvalidRequest` for any other path."""
    relative_path = path.removeprefix("/work/").removeprefix("./")
    if not is_path(relative_path):
        raise InvalidRequest(
            f"'{path[:80]}' is not a valid path of a file in the working folder: use a relative path without "
            "'..'.",
            code="invalid_path",
            param="arguments.path",
        )
    return relative_path
