"""Reads a skill's instructions and further files for a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core.context import Context
from portico_server.core.request import ToolResult
from portico_server.features.skills.library import SkillLibrary, as_text
from portico_server.features.tools.tool import Tool

MAX_LISTED: Final = 100
"""Maximum number of skills in one result."""


def tool(skills: SkillLibrary) -> Tool:
    """Return ``read_skill``, which lists the skills or returns a file of a skill."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        ref = arguments.get("skill")
        if ref is None:
            skill_rows = (await skills.list(context.caller))[:MAX_LISTED]
            lines = [f"- {row.name}: {row.description}" for row in skill_rows]
            listed_skills = [{"name": row.name, "description": row.description} for row in skill_rows]
            return ToolResult("\n".join(lines) or "No skills exist.", {"skills": listed_skills})
        skill, path, data = await skills.read(ref, context.caller, arguments.get("path"))
        files = [at for at, _size, _digest in skill.version.files]
        about = {"skill": skill.name, "version": skill.version.version, "path": path, "files": files}
        return ToolResult(as_text(skill, path, data), about)

    return Tool(
        name="read_skill",
        title="Read a skill",
        description=(
            "Read the instructions of a skill (its SKILL.md), or another file of it that they name; without 'skill' "
            "list the skills that there are. Scripts run with code_interpreter, which has the folder of each of its "
            "'skills' at /skills/NAME."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "skill": {"type": "string", "maxLength": 100, "description": "The name of a skill."},
                "path": {
                    "type": "string",
                    "maxLength": 255,
                    "description": "A file in its folder, such as references/FORMS.md (default: SKILL.md).",
                },
            },
            "additionalProperties": False,
        },
        output_schema=_OUTPUT,
        work=work,
        group="skills",
    )


_OUTPUT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "skills": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "description": {"type": "string"}},
                "required": ["name", "description"],
            },
        },
        "skill": {"type": "string"},
        "version": {"type": "integer"},
        "path": {"type": "string"},
        "files": {"type": "array", "items": {"type": "string"}, "description": "All files of the skill."},
    },
}
