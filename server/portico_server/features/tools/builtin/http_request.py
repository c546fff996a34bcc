"""HTTP requests to a service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolCall, ToolResult
from portico_server.features.tools.tool import Tool
from portico_server.http.fetch.policy import AddressPolicy

MAX_BODY_CHARS: Final = 50_000
"""Maximum number of characters of a response body that are returned."""

_NOT_YOURS: Final = {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"}


def tool(policy: AddressPolicy) -> Tool:
    """Return ``http_request``, which sends a request with any method, headers and body.

    Its result is the status, headers and text of the response.
    """

    async def work(call: ToolCall, _context: Context) -> ToolResult:
        return await _work(call, policy)

    return Tool(
        name="http_request",
        title="HTTP request",
        description="Send an HTTP request to a public address and return status, headers and body as text.",
        input_schema={
            "type": "object",
            "properties": {
                "url": {"type": "string", "minLength": 1, "maxLength": 4096},
                "method": {"enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"], "default": "GET"},
                "headers": {
                    "type": "object",
                    "propertyNames": {"pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"},
                    "additionalProperties": {
                        "type": "string",
                        "pattern": "^[^\\x00-\\x08\\x0a-\\x1f\\x7f]*$",
                    },
                },
                "body": {"type": "string", "description": "The body as text."},
                "json": {"description": "The body as a JSON value, instead of 'body'."},
            },
            "required": ["url"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "url": {"type": "string"},
                "status": {"type": "integer"},
                "headers": {"type": "object", "additionalProperties": {"type": "string"}},
                "text": {"type": "string"},
                "truncated": {"type": "boolean"},
            },
            "required": ["url", "status", "headers", "text", "truncated"],
        },
        keyed=work,
        group="web",
        read_only=False,
        destructive=True,
        open_world=True,
        only_reads=_only_reads,
        trusts=policy.trusts_address,
    )


def _only_reads(arguments: Mapping[str, Any]) -> bool:
    """Return whether a request tells the host no more than its address."""
    return arguments.get("method", "GET") in ("GET", "HEAD") and not arguments.keys() & {
        "headers",
        "body",
        "json",
    }


async def _work(call: ToolCall, policy: AddressPolicy) -> ToolResult:
    from portico_server.http.fetch.client import FetchRequest, fetch

    arguments = call.arguments
    method = arguments.get("method", "GET")
    headers = dict(arguments.get("headers", {}))
    if forbidden := sorted(name for name in headers if name.lower() in _NOT_YOURS):
        return ToolResult(f"The header {forbidden[0]} is set by the connection; leave it out.", is_error=True)
    has_key = any(name.lower() == "idempotency-key" for name in headers)
    if call.key and method not in ("GET", "HEAD") and not has_key:
        headers["Idempotency-Key"] = quote(call.key, safe=":.[]#")
    body = arguments["body"].encode() if "body" in arguments else None
    if "json" in arguments:
        body = json.dumps(arguments["json"]).encode()
        headers.setdefault("Content-Type", "application/json")
    try:
        fetched_page = await fetch(FetchRequest(arguments["url"], method, headers, body), policy)
    except PorticoError as error:
        return ToolResult(error.message, is_error=True)
    text = fetched_page.text
    is_truncated = fetched_page.truncated or len(text) > MAX_BODY_CHARS
    structured_content = {
        "url": fetched_page.url,
        "status": fetched_page.status,
        "headers": dict(fetched_page.headers),
        "text": text[:MAX_BODY_CHARS],
        "truncated": is_truncated,
    }
    cut = "\n[truncated]" if is_truncated else ""
    return ToolResult(
        f"{fetched_page.status} {fetched_page.url}\n\n{text[:MAX_BODY_CHARS]}{cut}", structured_content
    )
