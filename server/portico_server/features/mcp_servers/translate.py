"""Translates MCP's tools and results into Portico's own types. Imports the types of the ``mcp`` package."""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final
from urllib.parse import unquote

import mcp_types as types
from mcp import Client

from portico.schemas.artifacts import Artifact
from portico.schemas.mcp_servers import (
    McpArgument,
    McpCard,
    McpContent,
    McpPrompt,
    McpPromptMessage,
    McpResource,
)
from portico_server.core.errors import TooLarge
from portico_server.core.names import HASH_LENGTH, callable_name, hashed_name
from portico_server.core.request import ToolResult
from portico_server.features.mcp_servers.offered import MAX_CONTENT_CHARS
from portico_server.features.mcp_servers.readable import OUTPUT_SCHEMA, problems_of
from portico_server.features.mcp_servers.spec import ServerSpec
from portico_server.features.tools.tool import Keyed, Tool
from portico_server.runs.artifacts import NewArtifact

_CONTROLS: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
_MAX_DESCRIPTION_CHARS: Final = 4_000
_MAX_CAPABILITIES: Final = 50
MAX_FILES: Final = 100
"""Maximum number of files in one result that are stored."""


def names_of(spec: ServerSpec, tool: str) -> Iterator[str]:
    """Yield the names under which a server's tool can be registered, best first.

    The first is the prefix and the tool's name, changed only if models cannot call it (`callable_name`). The others are
    for a tool whose name is in use. No name depends on the other tools of the server.
    """
    yield callable_name(f"{spec.prefix}{tool}")
    yield callable_name(f"{spec.name}_{tool}")
    yield hashed_name(f"{spec.name}_{tool}", f"tool/{spec.name}/{tool}", 2 * HASH_LENGTH)


def tool_of(tool: types.Tool, name: str, spec: ServerSpec, work: Keyed) -> Tool:
    """Convert a server's tool.

    The tool's description is treated as plain text, whatever instructions it contains.
    """
    notes = tool.annotations or types.ToolAnnotations()
    read_only = notes.read_only_hint is True
    return Tool(
        name=name,
        title=_short(tool.title or notes.title or tool.name),
        description=plain(tool.description or tool.title or tool.name)[:_MAX_DESCRIPTION_CHARS],
        input_schema=tool.input_schema,
        output_schema=(tool.meta or {}).get(OUTPUT_SCHEMA),
        keyed=work,
        read_only=read_only,
        destructive=not read_only and notes.destructive_hint is not False,
        open_world=notes.open_world_hint is not False,
        timeout=spec.timeout + 30,
        group=spec.name,
        source=f"mcp:{spec.name}",
        repeat=spec.repeat,
        original_name="" if name == (original := f"{spec.prefix}{tool.name}") else original,
    )


def plain(text: str) -> str:
    """Return the text without invisible characters."""
    return _CONTROLS.sub("", text)


def made_in(result: types.CallToolResult) -> list[NewArtifact]:
    """Return the first `MAX_FILES` images, audio and files of a result. Invalid base64 is skipped."""
    artifacts: list[NewArtifact] = []
    for number, block in enumerate(result.content, 1):
        if len(artifacts) >= MAX_FILES:
            break
        match block:
            case (
                types.ImageContent(mime_type=kind, data=text) | types.AudioContent(mime_type=kind, data=text)
            ):
                name = f"{block.type}-{number}{mimetypes.guess_extension(kind) or ''}"
            case types.EmbeddedResource(
                resource=types.BlobResourceContents(uri=uri, mime_type=media_type, blob=text)
            ):
                name = _file_of(uri) or f"file-{number}"
                kind = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
            case _:
                continue
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error:
            continue
        artifacts.append(NewArtifact(name, kind, data))
    return artifacts


def _file_of(uri: str) -> str:
    """Return the file name at the end of an address, without a folder. The name can be any text."""
    path = unquote(uri.partition("#")[0].partition("?")[0]).replace("\\", "/")
    return plain(path.rpartition("/")[2])[:150].strip(". ")


def result_of(result: types.CallToolResult, artifacts: tuple[Artifact, ...]) -> ToolResult:
    """Convert a server's result, with ``artifacts``. Content that is not text is described by its type and size.
    Structured content without other content is shown as JSON, because models read the text.
    """
    structured_content: Any = result.structured_content
    texts = [_text(block) for block in result.content]
    if structured_content is not None and not texts:
        texts.append(json.dumps(structured_content, ensure_ascii=False))
    texts += (f"[{problem}]" for problem in problems_of(result.meta))
    return ToolResult(
        "\n".join(texts), structured_content, is_error=result.is_error is True, artifacts=artifacts
    )


def _text(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent(text=text):
            return text
        case types.ImageContent(mime_type=kind, data=data) | types.AudioContent(mime_type=kind, data=data):
            return f"[{kind}, {len(data) * 3 // 4} bytes]"
        case types.ResourceLink(name=name, uri=uri):
            return f"[{name}: {uri}]"
        case types.EmbeddedResource(resource=types.TextResourceContents(text=text)):
            return text
        case types.EmbeddedResource(resource=resource):
            return f"[{resource.mime_type or 'a file'} at {resource.uri}]"


def _short(text: str | None) -> str:
    """Return a server's name or title in one line."""
    return " ".join(plain(text or "")[:1_000].split())[:200]


def card_of(client: Client) -> McpCard:
    """Return what a connected server reports about itself."""
    info = client.server_info
    return McpCard(
        title=_short((info.title or info.name) if info else ""),
        version=_short(info.version if info else ""),
        protocol=_short(client.protocol_version),
        instructions=plain(client.instructions or "")[:_MAX_DESCRIPTION_CHARS],
        capabilities=tuple(islice(_capabilities(client.server_capabilities), _MAX_CAPABILITIES)),
    )


def _capabilities(server_capabilities: types.ServerCapabilities) -> Iterator[str]:
    """Yield the names of the server's capabilities, each followed by the names nested in it."""
    for name, value in server_capabilities.model_dump(mode="json", by_alias=True, exclude_none=True).items():
        yield _short(name)
        if isinstance(value, dict):
            yield from (_short(f"{name}.{inner}") for inner, holds in value.items() if holds is not False)


def resource_of(listed_resource: types.Resource | types.ResourceTemplate) -> McpResource:
    """Convert a server's resource, or a URI template of resources."""
    template = isinstance(listed_resource, types.ResourceTemplate)
    return McpResource(
        uri=listed_resource.uri_template
        if isinstance(listed_resource, types.ResourceTemplate)
        else str(listed_resource.uri),
        name=_short(listed_resource.name),
        title=_short(listed_resource.title),
        description=plain(listed_resource.description or "")[:_MAX_DESCRIPTION_CHARS],
        mime_type=_short(listed_resource.mime_type),
        size=None if isinstance(listed_resource, types.ResourceTemplate) else listed_resource.size,
        template=template,
    )


def contents_of(resource_result: types.ReadResourceResult) -> list[McpContent]:
    """Return the contents of a resource. Raise `TooLarge`."""
    contents = [
        McpContent(
            uri=str(content.uri),
            mime_type=_short(content.mime_type),
            text=content.text if isinstance(content, types.TextResourceContents) else None,
            data=content.blob if isinstance(content, types.BlobResourceContents) else None,
        )
        for content in resource_result.contents
    ]
    _require_size(sum(len(mcp_content.text or mcp_content.data or "") for mcp_content in contents))
    return contents


def prompt_of(prompt: types.Prompt) -> McpPrompt:
    """Convert a server's prompt."""
    return McpPrompt(
        name=prompt.name,
        title=_short(prompt.title),
        description=plain(prompt.description or "")[:_MAX_DESCRIPTION_CHARS],
        arguments=tuple(
            McpArgument(
                prompt_argument.name,
                _short(prompt_argument.title),
                _short(prompt_argument.description),
                prompt_argument.required is True,
            )
            for prompt_argument in prompt.arguments or ()
        ),
    )


def messages_of(prompt_result: types.GetPromptResult) -> list[McpPromptMessage]:
    """Return the messages of a filled-in prompt. Raise `TooLarge`."""
    messages = [_message(prompt_message) for prompt_message in prompt_result.messages]
    _require_size(
        sum(len(prompt_message.text) + len(prompt_message.data or "") for prompt_message in messages)
    )
    return messages


def _message(prompt_message: types.PromptMessage) -> McpPromptMessage:
    match prompt_message.content:
        case types.ImageContent(mime_type=kind, data=data) | types.AudioContent(mime_type=kind, data=data):
            return McpPromptMessage(prompt_message.role, _text(prompt_message.content), kind, data)
        case content:
            return McpPromptMessage(prompt_message.role, _text(content), "text/plain", None)


def _require_size(chars: int) -> None:
    if chars > MAX_CONTENT_CHARS:
        raise TooLarge(
            f"The content has {chars:,} characters, but the maximum is {MAX_CONTENT_CHARS:,}. Use a tool of "
            "the server to read the content in parts.",
            code="mcp_content_too_large",
        )
