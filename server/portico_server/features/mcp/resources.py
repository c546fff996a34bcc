"""Files of stores as MCP resources, with URIs ``portico://stores/{store}/files/{file}``, themes of stores, and files of
skills.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final
from urllib.parse import quote, unquote

import mcp_types as types
import orjson
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from portico_server.core.errors import Forbidden, NotFound, PorticoError
from portico_server.core.principal import Principal
from portico_server.features.mcp import incoming, views
from portico_server.features.mcp.incoming import caller_of
from portico_server.features.mcp.library import Library, Position, StoredFile
from portico_server.features.mcp.session_origins import SessionOrigins
from portico_server.features.mcp.skills import TEMPLATE as SKILL_TEMPLATE
from portico_server.features.mcp.skills import SkillOffers
from portico_server.features.mcp.skills import parse_uri as parse_skill_uri

PAGE_SIZE: Final = 100
"""Number of resources on one page of a list."""

TEMPLATE: Final = "portico://stores/{store}/files/{file}"

THEMES_TEMPLATE: Final = "portico://stores/{store}/themes"

_URI = re.compile(r"portico://stores/([^/?#]+)/files/([^/?#]+)")

_THEMES_URI = re.compile(r"portico://stores/([^/?#]+)/themes")

_ARTIFACT = re.compile(r"portico://artifacts/([A-Za-z0-9_-]{1,64})")


def uri_of(store: str, file: str) -> str:
    """Return the URI of a file from its store name and file name. Slashes in the names are encoded too."""
    return f"portico://stores/{quote(store, safe='')}/files/{quote(file, safe='')}"


def themes_uri_of(store: str) -> str:
    """Return the URI of the themes of a store."""
    return f"portico://stores/{quote(store, safe='')}/themes"


def parse_uri(uri: str) -> tuple[str, str]:
    """Return the store name and file name in a URI. Raise `MCPError` for a URI of another server."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise MCPError(
            types.INVALID_PARAMS,
            f"'{uri[:200]}' is not a resource of this server. Resources have the form {TEMPLATE}.",
        )
    return unquote(match.group(1)), unquote(match.group(2))


class ResourceOffers:
    """Handlers of ``resources/list``, ``resources/templates/list`` and ``resources/read``."""

    def __init__(self, library: Library, skills: SkillOffers, session_origins: SessionOrigins) -> None:
        self._library = library
        self._session_origins = session_origins
        self._skills = skills

    async def list(
        self, context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """List the skills, and the files and themes of all stores that the caller may read, one store after another.

        A store without files has no themes.
        """
        start = _position(params.cursor if params else None)
        files, following = await self._library.files(
            caller_of(context), start, PAGE_SIZE, only=incoming.store_of(context)
        )
        resources = await self._skills.resources(context) if start is None else []
        listed_store = None if start is None else start.store
        for file in files:
            if file.store != listed_store:
                listed_store = file.store
                resources.append(_themes_resource(file.store))
            resources.append(_file_resource(file))
        return types.ListResourcesResult(
            resources=resources,
            next_cursor=None if following is None else incoming.write([following.store, following.after]),
        )

    async def templates(
        self, _context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        """List the resource templates."""
        template = types.ResourceTemplate(
            name="file",
            title="A file of a store",
            uri_template=TEMPLATE,
            description="A document, addressed by the names of its store and file, both percent-encoded, including "
            "slashes.",
        )
        themes = types.ResourceTemplate(
            name="themes",
            title="The themes of a store",
            uri_template=THEMES_TEMPLATE,
            description="What the documents of a store are about: themes and the most mentioned names, each with an "
            "example, as JSON.",
        )
        skill = types.ResourceTemplate(
            name="skill",
            title="A file of a skill",
            uri_template=SKILL_TEMPLATE,
            description="SKILL.md contains the instructions of a skill and names its other files.",
        )
        return types.ListResourceTemplatesResult(resource_templates=[template, themes, skill])

    async def read(
        self, context: ServerRequestContext[Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        """Return a file's content as text if the file is text, otherwise as bytes."""
        view = views.view_at(params.uri)
        if view is not None:
            return views.read(view)
        match = _ARTIFACT.fullmatch(params.uri)
        themes_match = _THEMES_URI.fullmatch(params.uri)
        skill = parse_skill_uri(params.uri)
        try:
            if skill is not None:
                file, data = await self._skills.read(context, *skill)
            elif match is not None:
                artifact, data = await self._library.read_artifact(caller_of(context), match[1])
                file = StoredFile("", artifact.id, artifact.name, artifact.bytes)
            elif themes_match is not None:
                store = unquote(themes_match[1])
                _require_visible(context, store)
                data = orjson.dumps(await self._library.themes(caller_of(context), store))
                file = StoredFile(store, "themes", "themes.json", len(data))
            else:
                store, name = parse_uri(params.uri)
                _require_visible(context, store)
                file, data = await self._library.read(caller_of(context), store, name)
        except PorticoError as error:
            raise _to_mcp_error(error, params.uri) from error
        text = _as_text(file, data)
        if skill is None:
            origin = f"store {file.store}, {file.filename}" if file.store else file.filename
            self._session_origins.add(context, [origin], text or "")
        contents = (
            types.TextResourceContents(uri=params.uri, mime_type=file.media_type, text=text)
            if text is not None
            else types.BlobResourceContents(
                uri=params.uri, mime_type=file.media_type, blob=base64.b64encode(data).decode()
            )
        )
        return types.ReadResourceResult(contents=[contents])

    async def version(self, context: ServerRequestContext[Any], uri: str) -> str | None:
        """Return the current version of a file that a client wants to watch; ``None`` if the file does not exist yet.

        Raise `MCPError` unless this caller may read the file at this endpoint, and for themes, which are expensive to
        compare.
        """
        if _THEMES_URI.fullmatch(uri) is not None:
            raise MCPError(
                types.INVALID_PARAMS,
                "Themes cannot be watched. Watch the list of resources, which changes with the files of a store.",
                {"uri": uri},
            )
        if _ARTIFACT.fullmatch(uri) is not None:
            await self.read(context, types.ReadResourceRequestParams(uri=uri))
            return ""  # files made by a run do not change
        skill = parse_skill_uri(uri)
        if skill is not None:
            try:
                await self._skills.read(context, *skill)
                return await self._skills.version(caller_of(context), *skill)
            except PorticoError as error:
                raise _to_mcp_error(error, uri) from error
        store, name = parse_uri(uri)
        try:
            _require_visible(context, store)
            return await self._library.version(caller_of(context), store, name)
        except PorticoError as error:
            raise _to_mcp_error(error, uri) from error

    async def state(self, caller: Principal, uri: str) -> str | None:
        """Return the version of a watched file; ``None`` if the file no longer exists or the caller may no longer read
        it.
        """
        if _ARTIFACT.fullmatch(uri) is not None:
            return ""
        skill = parse_skill_uri(uri)
        try:
            if skill is not None:
                return await self._skills.version(caller, *skill)
            return await self._library.version(caller, *parse_uri(uri))
        except PorticoError:
            return None


def _to_mcp_error(error: PorticoError, uri: str) -> MCPError:
    code = types.INVALID_REQUEST if isinstance(error, Forbidden) else types.INVALID_PARAMS
    return MCPError(code, error.message, {"uri": uri})


def _require_visible(context: ServerRequestContext[Any], store: str) -> None:
    if incoming.store_of(context) not in (None, store):
        raise NotFound(f"The store '{store}' is not visible at this endpoint.")


def _themes_resource(store: str) -> types.Resource:
    return types.Resource(
        name="themes", title=f"Themes of {store}", uri=themes_uri_of(store), mime_type="application/json"
    )


def _file_resource(file: StoredFile) -> types.Resource:
    return types.Resource(
        name=file.name,
        title=file.filename,
        uri=uri_of(file.store, file.name),
        mime_type=file.media_type,
        size=file.bytes,
    )


def _as_text(file: StoredFile, data: bytes) -> str | None:
    """Return the text of a file, or ``None`` unless the media type is text and the bytes are UTF-8."""
    if not file.is_text:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _position(cursor: str | None) -> Position | None:
    """Return the position at which a list continues. Raise `MCPError` for a cursor from another server."""
    if cursor is None:
        return None
    match incoming.read(cursor):
        case [str(store), (str() | None) as after]:
            return Position(store, after)
    raise MCPError(
        types.INVALID_PARAMS, "The cursor was not issued by this server. Start from the first page."
    )
