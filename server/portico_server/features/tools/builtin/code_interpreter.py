"""Python with packages, in a sandboxed notebook."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from portico.schemas.artifacts import Artifact
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.request import ToolResult
from portico_server.features.sandbox.containers import ContainerService
from portico_server.features.sandbox.protocol import MB, Cell, CellOutcome, SandboxLimits
from portico_server.features.skills.library import SKILLS_SCHEMA, SkillLibrary
from portico_server.features.tools.artifact import ARTIFACT
from portico_server.features.tools.tool import Tool
from portico_server.runs.artifacts import ArtifactStore

FILES: Final = 16 * MB
"""Maximum total size of the files in one call, in bytes."""

_NAME: Final = r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,149}$"


def tool(
    containers: ContainerService, artifacts: ArtifactStore, skills: SkillLibrary, limits: SandboxLimits
) -> Tool:
    """Return ``code_interpreter``, which runs cells of a notebook."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        reason = await containers.missing()
        if reason is not None:
            return ToolResult(reason, is_error=True)

        code = (
            arguments["code"].encode("utf-8", "replace").decode()
        )  # half of a surrogate pair is not valid text
        files = await read_files(arguments.get("files") or (), artifacts, context)
        folders = await skills.folders(arguments.get("skills") or (), context.caller)
        cell = Cell(code, files, folders)
        session = arguments.get("session")
        outcome, new_artifacts = await containers.run(session, cell, context)
        return _result(outcome, session, new_artifacts)

    return Tool(
        name="code_interpreter",
        title="Code interpreter",
        description=(
            "Run Python in a notebook with numpy, pandas and matplotlib, and get what it prints, the value of its last "
            "line, and its figures and files. Calls with the same 'session' share variables and files; without it "
            "each call starts afresh. No network. Show a plot with plt.show(); write files into the working folder to "
            "hand them over. The folders of 'skills' are at /skills/NAME, to be read alone. "
            f"A cell may take {limits.seconds:g} seconds."
        ),
        input_schema=_input(),
        output_schema=_OUTPUT,
        work=work,
        group="code",
        composed=True,
        read_only=False,
    )


SESSION: Final[Mapping[str, Any]] = {
    "type": "string",
    "pattern": r"^[A-Za-z0-9_.:-]{1,64}$",
    "description": "A name of your choice, or the id of a container: calls with the same one share files.",
}

FILES_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "array",
    "maxItems": 20,
    "description": "Files to put into the working folder first, each from one of text, base64, artifact.",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": _NAME},
            "text": {"type": "string"},
            "base64": {"type": "string"},
            "artifact": {"type": "string", "description": "The id of an artifact."},
        },
        "required": ["name"],
        "minProperties": 2,
        "maxProperties": 2,
        "additionalProperties": False,
    },
}
"""Files that a call includes."""


def _input() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "code": {
                "type": "string",
                "minLength": 1,
                "maxLength": 1_000_000,
                "description": "Python source; '!' before a line runs it in a shell.",
            },
            "session": SESSION,
            "skills": SKILLS_SCHEMA,
            "files": FILES_SCHEMA,
        },
        "required": ["code"],
        "additionalProperties": False,
    }


_OUTPUT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "output": {"type": "string", "description": "What the code printed."},
        "value": {"type": ["string", "null"], "description": "The value of its last line, as text."},
        "error": {"type": ["string", "null"], "description": "The traceback, if it failed."},
        "notes": {"type": "array", "items": {"type": "string"}},
        "session": {"type": ["string", "null"]},
        "artifacts": {
            "type": "array",
            "description": "Figures and files that the code made, each with the link to its bytes.",
            "items": ARTIFACT,
        },
    },
    "required": ["output", "value", "error", "notes", "session", "artifacts"],
}


async def read_files(
    file_items: Sequence[Mapping[str, Any]], artifacts: ArtifactStore, context: Context
) -> dict[str, bytes]:
    """Return the files, keyed by name. Raise `InvalidRequest` that names the file, `NotFound` for an artifact."""
    files: dict[str, bytes] = {}
    for number, item in enumerate(file_items):
        path = f"arguments.files[{number}]"
        if not re.match(_NAME, item["name"]):
            raise InvalidRequest(f"'{item['name'][:80]}' is not a plain file name.", param=f"{path}.name")
        if "artifact" in item:
            data = await artifacts.read(item["artifact"], context.caller)
        elif "base64" in item:
            try:
                data = base64.b64decode(item["base64"], validate=True)
            except (binascii.Error, ValueError) as error:
                raise InvalidRequest(
                    f"The content of '{item['name']}' is not base64: {error}.", param=f"{path}.base64"
                ) from error
        else:
            data = item["text"].encode("utf-8", "replace")
        files[item["name"].encode("utf-8", "replace").decode()] = data
    if sum(len(data) for data in files.values()) > FILES:
        raise InvalidRequest(
            f"The files of one call can have at most {FILES // MB} MB in total. Send fewer files per call, "
            "in several calls of one session.",
            code="files_too_large",
            param="arguments.files",
        )
    return files


def _result(outcome: CellOutcome, session: str | None, artifacts: tuple[Artifact, ...]) -> ToolResult:
    parts = [outcome.output.rstrip("\n"), outcome.value or "", outcome.error or "", *outcome.notes]
    parts += [f"Made {item.name} ({item.bytes} bytes): {item.link}" for item in artifacts]
    text = "\n".join(part for part in parts if part)
    structured_content = {
        "output": outcome.output,
        "value": outcome.value,
        "error": outcome.error,
        "notes": list(outcome.notes),
        "session": session,
        "artifacts": [asdict(item) for item in artifacts],
    }
    text = text or "Done. The code printed nothing, and the last line has no value."
    return ToolResult(text, structured_content, is_error=outcome.error is not None, artifacts=artifacts)
