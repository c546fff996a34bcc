"""Skills as MCP resources, under ``skill://NAME/PATH``, and the methods that list them.

Source: SEP-2640, the extension ``io.modelcontextprotocol/skills``.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote, unquote

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from portico_server.core.errors import NotFound, PorticoError
from portico_server.core.principal import Principal
from portico_server.features.mcp import incoming
from portico_server.features.mcp.incoming import caller_of
from portico_server.features.mcp.library import StoredFile
from portico_server.features.skills.folder import SKILL_FILE
from portico_server.features.skills.library import SkillLibrary, StoredSkill

EXTENSION: Final = "io.modelcontextprotocol/skills"
TEMPLATE: Final = "skill://{skill}/{+path}"
PAGE_SIZE: Final = 50
"""Skills in one page of a list."""

_URI: Final = re.compile(r"skill://([a-z0-9-]{1,64})/([^?#]{1,1024})")


class SkillParams(types.RequestParams):
    """Parameters that contain the URI of a skill's SKILL.md."""

    uri: str


def uri_of(skill: str, path: str = SKILL_FILE) -> str:
    """Return the URI of a file of a skill."""
    return f"skill://{skill}/{quote(path)}"


def parse_uri(uri: str) -> tuple[str, str] | None:
    """Return the skill and path in a URI, or ``None`` if the URI does not belong to a skill."""
    match = _URI.fullmatch(uri)
    return None if match is None else (match[1], unquote(match[2]))


class SkillOffers:
    """Handlers of ``skills/list`` and ``skills/get``, and the resources for skills.

    An endpoint for a single object shows no skills.
    """

    def __init__(self, skills: SkillLibrary) -> None:
        self._skills = skills

    async def get(self, context: ServerRequestContext[Any], params: SkillParams) -> dict[str, Any]:
        """Handle ``skills/get``."""
        skill_uri = parse_uri(params.uri)
        if skill_uri is None or skill_uri[1] != SKILL_FILE or incoming.is_narrow(context):
            raise MCPError(
                types.INVALID_PARAMS,
                f"'{params.uri[:200]}' is not the {SKILL_FILE} of a skill on this server.",
            )
        try:
            return {"skill": _entry(await self._skills.version(skill_uri[0], caller_of(context)))}
        except PorticoError as error:
            raise MCPError(types.INVALID_PARAMS, error.message, {"uri": params.uri}) from error

    async def resources(self, context: ServerRequestContext[Any]) -> list[types.Resource]:
        """Return the SKILL.md of each skill as a resource. SKILL.md names the skill's other files; clients read them
        by URI.
        """
        skill_rows = [] if incoming.is_narrow(context) else await self._skills.list(caller_of(context))
        return [
            types.Resource(
                name=row.name,
                uri=uri_of(row.name),
                mime_type="text/markdown",
                description=row.description,
            )
            for row in skill_rows
        ]

    async def read(
        self, context: ServerRequestContext[Any], skill: str, path: str
    ) -> tuple[StoredFile, bytes]:
        """Return a file of a skill. Raises `NotFound`."""
        if incoming.is_narrow(context):
            raise NotFound(f"The skill '{skill}' is not visible at this endpoint.", param="uri")
        _skill, path, data = await self._skills.read(skill, caller_of(context), path)
        return StoredFile("", path, path.rpartition("/")[2], len(data)), data

    async def version(self, caller: Principal, skill: str, path: str) -> str | None:
        """Return the digest of a watched file, or ``None`` if the file does not exist. Raise `NotFound` if the skill
        does not exist.
        """
        stored_skill = await self._skills.version(skill, caller)
        return next((digest for at, _size, digest in stored_skill.version.files if at == path), None)

    async def list(
        self, context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> dict[str, Any]:
        """Handle ``skills/list``: list the skills that the caller can use, sorted by name. If several have a name,
        list the skill that the name resolves to.
        """
        caller = caller_of(context)
        found_skill_rows = [] if incoming.is_narrow(context) else await self._skills.list(caller)
        after = _decode_cursor(params.cursor if params else None)
        skill_rows = [row for row in sorted(found_skill_rows, key=lambda row: row.name) if row.name > after]
        entries = [_entry(await self._skills.version(row.id, caller)) for row in skill_rows[:PAGE_SIZE]]
        next_cursor = (
            {"nextCursor": incoming.write([skill_rows[PAGE_SIZE - 1].name])}
            if len(skill_rows) > PAGE_SIZE
            else {}
        )
        return {"skills": entries, **next_cursor}


def _entry(skill: StoredSkill) -> dict[str, Any]:
    return {
        "uri": uri_of(skill.name),
        "frontmatter": dict(skill.version.front_matter),
        "resources": [
            {"uri": uri_of(skill.name, path), "digest": f"sha256:{digest}"}
            for path, _size, digest in skill.version.files
        ],
    }


def _decode_cursor(cursor: str | None) -> str:
    if cursor is None:
        return ""
    match incoming.read(cursor):
        case [str(name)]:
            return name
    raise MCPError(
        types.INVALID_PARAMS, "The cursor was not issued by this server. Start from the first page."
    )
