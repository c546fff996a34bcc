"""Reads a web page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolResult
from portico_server.features.tools.tool import Tool
from portico_server.http.fetch.policy import AddressPolicy

CHARACTERS: Final = 20_000
"""Default number of characters of a page that are returned."""

_TEXTS: Final = {
    "application/json",
    "application/xml",
    "application/javascript",
    "application/yaml",
    "application/toml",
    "application/x-ndjson",
}


def tool(policy: AddressPolicy) -> Tool:
    """Return ``web_fetch``, which returns the readable text of a page, with its links."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        return await _work(arguments, policy, context.caller.id)

    return Tool(
        name="web_fetch",
        title="Read a web page",
        description=(
            "Fetch a public web page and return its readable text with links. Long pages come in parts: call "
            "again with 'start' set to 'next_start'."
        ),
        input_schema={
            "type": "object",
            "properties": {
                "url": {"type": "string", "minLength": 1, "maxLength": 4096, "description": "http or https."},
                "start": {
                    "type": "integer",
                    "minimum": 0,
                    "default": 0,
                    "description": "The character of the text at which to begin.",
                },
                "max_chars": {"type": "integer", "minimum": 200, "maximum": 100_000, "default": CHARACTERS},
            },
            "required": ["url"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "url": {"type": "string", "description": "The address after redirects."},
                "status": {"type": "integer"},
                "title": {"type": "string"},
                "media_type": {"type": "string"},
                "text": {"type": "string"},
                "start": {"type": "integer"},
                "next_start": {"type": ["integer", "null"]},
                "total_chars": {"type": "integer"},
            },
            "required": [
                "url",
                "status",
                "title",
                "media_type",
                "text",
                "start",
                "next_start",
                "total_chars",
            ],
        },
        work=work,
        group="web",
        open_world=True,
        trusts=policy.trusts_address,
    )


async def _work(arguments: Mapping[str, Any], policy: AddressPolicy, caller: str) -> ToolResult:
    # Imported in the function, so that the daemon's start does not import aiohttp and lxml.
    from portico_server.http.fetch import client, readable

    ask = client.FetchRequest(arguments["url"], headers={"Accept": "text/html, text/*;q=0.9, */*;q=0.5"})
    try:
        fetched_page = await client.fetch(ask, policy)
    except PorticoError as error:
        return ToolResult(error.message, is_error=True)
    if fetched_page.media_type in ("text/html", "application/xhtml+xml"):
        page = await pools.DOCUMENTS.run_for(
            caller, readable.read, fetched_page.data, fetched_page.charset, fetched_page.url
        )
    elif (
        fetched_page.media_type.startswith("text/")
        or fetched_page.media_type in _TEXTS
        or fetched_page.media_type.endswith("+json")
    ):
        page = readable.ReadablePage("", fetched_page.text)
    else:
        return ToolResult(
            f"{fetched_page.url} is {fetched_page.media_type}, {len(fetched_page.data)} bytes, which "
            "cannot be read as text.",
            is_error=True,
        )
    if fetched_page.status >= 400:
        return ToolResult(
            f"{fetched_page.url} responded with status {fetched_page.status}.\n\n{page.text[:2000]}",
            is_error=True,
        )
    start = int(arguments.get("start", 0))
    part = page.text[start : start + int(arguments.get("max_chars", CHARACTERS))]
    following = start + len(part) if start + len(part) < len(page.text) else None
    head = f"{page.title}\n{fetched_page.url}\n\n" if page.title and not start else f"{fetched_page.url}\n\n"
    tail = f"\n\n[{len(page.text)} characters in total; continue with start={following}]" if following else ""
    cut = (
        "\n\n[The page was longer than the fetch limit; its end is missing.]"
        if fetched_page.truncated
        else ""
    )
    return ToolResult(
        head + (part or "The page contains no text.") + tail + cut,
        {
            "url": fetched_page.url,
            "status": fetched_page.status,
            "title": page.title,
            "media_type": fetched_page.media_type,
            "text": part,
            "start": start,
            "next_start": following,
            "total_chars": len(page.text),
        },
    )
