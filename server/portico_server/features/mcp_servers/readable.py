"""Reads what an MCP server sends as far as it can be read, before the ``mcp`` package validates it.

The package rejects a whole list of tools for one odd schema, and a whole result for one odd item. `readable_message`
repairs the envelope of a message as it arrives, and `Responses` repairs the results of those requests whose results
servers get wrong. What cannot be read is left out and described by a sentence in the result's ``_meta``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import mcp_types as types
import orjson

from portico_server.core.json_schema import readable_schema
from portico_server.core.words import whole_number
from portico_server.features.mcp_servers.error_codes import OWN_CODES, SERVER_ERROR_CODE

PROBLEMS: Final = "portico/problems"
"""Name under which ``_meta`` of a result contains sentences about what could not be read."""

OUTPUT_SCHEMA: Final = "portico/output-schema"
"""Name under which ``_meta`` of a tool contains its output schema. The ``mcp`` package does not see the schema, because
it discards results that do not match.
"""

_VALUE: Final = "portico/value"
"""Name under which a result contains a value that is not an object."""

_HINTS: Final = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
_MAX_PATHS: Final = 5
_MAX_PATH_CHARS: Final = 80
_MAX_ERROR_CHARS: Final = 2_000


def readable_message(text: str) -> str:
    """Return a JSON-RPC message that the ``mcp`` package accepts, if ``text`` is a response with an unusual envelope.
    Return any other text unchanged.
    """
    clean = text.removeprefix("\ufeff")
    try:
        message, is_changed = orjson.loads(clean), clean != text
    except ValueError:
        try:  # NaN and halves of surrogate pairs are no JSON, but Python servers write them
            message, is_changed = json.loads(clean, parse_constant=lambda _constant: None), True
        except (ValueError, RecursionError):
            return text
    if isinstance(message, list) and len(message) == 1:  # a batch, which the revision 2025-03-26 allowed
        [message], is_changed = message, True
    if not isinstance(message, dict) or "id" not in message or "method" in message:
        return text
    if message.get("error") is not None:
        error = _error(message["error"])
        is_changed |= error is not message["error"] or "result" in message
        message = {"jsonrpc": "2.0", "id": message["id"], "error": error}
    elif "result" in message:
        result = message["result"]
        is_readable = isinstance(result, dict)
        is_changed |= not is_readable or message.get("jsonrpc") != "2.0"
        message = {
            "jsonrpc": "2.0",
            "id": message["id"],
            "result": result if is_readable else {_VALUE: result},
        }
    else:
        return text
    if not is_changed:
        return text
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "replace").decode()


def _error(error: Any) -> dict[str, Any]:
    """Return the error of a response with a number and a message, and with a code that only the server uses."""
    if not isinstance(error, dict):
        return {"code": types.INTERNAL_ERROR, "message": _text_of(error)}
    code, message, data = error.get("code"), error.get("message"), error.get("data")
    is_reserved = code in (types.CONNECTION_CLOSED, types.REQUEST_TIMEOUT, *OWN_CODES)
    if isinstance(code, int) and not isinstance(code, bool) and isinstance(message, str) and not is_reserved:
        return error
    if is_reserved:
        code, data = SERVER_ERROR_CODE, {"code": code, "data": data}
    elif isinstance(code, bool) or not isinstance(code, int):
        code = types.INTERNAL_ERROR
    if not isinstance(message, str):
        # the error's other members say what its message does not
        message = _text_of(error if message is None else message)[:_MAX_ERROR_CHARS]
    return {"code": code, "message": message, **({} if data is None else {"data": data})}


def error_text(error: types.ErrorData) -> str:
    """Return the message of a server's error, followed by the error's data."""
    data = error.data
    if error.code in OWN_CODES:
        data = data["data"] if error.code == SERVER_ERROR_CODE else None
    if data in (None, "", {}, []):
        return error.message
    return f"{error.message} ({_text_of(data)[:_MAX_ERROR_CHARS]})"


class Responses:
    """The open requests to a server, by id, and how their results are read."""

    def __init__(self) -> None:
        self._readers: dict[types.RequestId, Callable[[dict[str, Any]], dict[str, Any]]] = {}

    def note(self, message: types.JSONRPCMessage) -> None:
        """Note a message to the server."""
        if isinstance(message, types.JSONRPCRequest):
            if message.method in _READERS:
                self._readers[message.id] = _READERS[message.method]
        elif isinstance(message, types.JSONRPCNotification) and message.method == "notifications/cancelled":
            self._readers.pop((message.params or {}).get("requestId", ""), None)

    def read(self, message: types.JSONRPCMessage) -> None:
        """Replace the result of a response by what could be read of it."""
        if not isinstance(message, types.JSONRPCResponse | types.JSONRPCError) or message.id is None:
            return
        number = whole_number(message.id) if isinstance(message.id, str) else message.id
        reader = self._readers.pop(message.id if number is None else number, None)
        if isinstance(message, types.JSONRPCResponse) and reader is not None:
            message.result = reader(message.result)


def problems_of(meta: Mapping[str, Any] | None) -> list[str]:
    """Return the sentences about what could not be read of a result with this ``_meta``."""
    return list((meta or {}).get(PROBLEMS, ()))


def _read_initialize(result: dict[str, Any]) -> dict[str, Any]:
    capabilities = _object(result.get("capabilities"))
    info = _object(result.get("serverInfo"))
    return {
        "protocolVersion": _text_of(result.get("protocolVersion") or "2025-03-26"),
        "capabilities": {
            name: _capability(value) for name, value in capabilities.items() if value not in (None, False)
        },
        "serverInfo": {
            "name": _text_of(info.get("name") or ""),
            "version": _text_of(info.get("version") or ""),
            **_texts(info, "title"),
        },
        **_texts(result, "instructions"),
    }


def _capability(value: Any) -> dict[str, Any]:
    """Return a capability. PHP writes an empty object as a list, and some servers write ``true``."""
    flags = ("listChanged", "subscribe")
    return {
        name: item
        for name, item in _object(value).items()
        if (isinstance(item, bool) if name in flags else isinstance(item, dict))
    }


def _read_tools(result: dict[str, Any]) -> dict[str, Any]:
    problems: list[str] = []
    entries = result.get("tools", result.get(_VALUE))
    if not isinstance(entries, list):
        problems.append("The server's list of tools could not be read: it is not a list.")
        entries = []
    tools = [_tool(entry, number, problems) for number, entry in enumerate(entries, 1)]
    cursor = result.get("nextCursor")
    if isinstance(cursor, int) and not isinstance(cursor, bool):
        cursor = str(cursor)
    return {
        # what the revision 2026-07-28 requires; earlier revisions ignore it
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
        "tools": [tool for tool in tools if tool is not None],
        **({"nextCursor": cursor} if isinstance(cursor, str) and cursor else {}),
        "_meta": {PROBLEMS: problems},
    }


def _tool(entry: Any, number: int, problems: list[str]) -> dict[str, Any] | None:
    """Return what can be read of a tool, or ``None`` if it cannot be called. Add a sentence to ``problems`` if
    something is missing.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        problems.append(
            f"Tool number {number} of the server is not offered: it is not an object with a 'name'."
        )
        return None
    unread = [name for name in ("title", "description") if not isinstance(entry.get(name), str | None)]
    annotations = _object(entry.get("annotations"))
    if not isinstance(entry.get("annotations"), dict | list | None):
        unread.append("annotations")
    hints = {name: annotations[name] for name in _HINTS if annotations.get(name) is not None}
    unread += (f"annotations.{name}" for name, hint in hints.items() if not isinstance(hint, bool))
    tool = {
        "name": entry["name"],
        **_texts(entry, "title", "description"),
        "inputSchema": _input_schema(entry.get("inputSchema"), unread),
        "annotations": {
            **_texts(annotations, "title"),
            **{name: hint for name, hint in hints.items() if isinstance(hint, bool)},
        },
        "_meta": {OUTPUT_SCHEMA: _output_schema(entry.get("outputSchema"), unread)},
    }
    if unread:
        paths = ", ".join(path[:_MAX_PATH_CHARS] for path in unread[:_MAX_PATHS])
        omission = f" and {len(unread) - _MAX_PATHS} more" if len(unread) > _MAX_PATHS else ""
        problems.append(
            f"The tool '{entry['name'][:100]}' is offered without what could not be read: {paths}{omission}."
        )
    return tool


def _input_schema(schema: Any, unread: list[str]) -> dict[str, Any]:
    """Return a schema of the arguments, which are always an object."""
    if schema in (None, True, []):
        return {"type": "object"}
    readable, paths = readable_schema(schema)
    unread += (f"inputSchema{path}" for path in paths)
    kind = readable.pop("type", "object")
    if kind != "object" and "object" not in kind:
        unread.append("inputSchema.type")
    return {"type": "object", **readable}


def _output_schema(schema: Any, unread: list[str]) -> dict[str, Any] | None:
    """Return a schema of the structured content, or ``None`` if it describes no object."""
    if schema in (None, True, {}, []):
        return None
    readable, paths = readable_schema(schema)
    unread += (f"outputSchema{path}" for path in paths)
    kind = readable.pop("type", "object")
    if kind != "object" and "object" not in kind:
        unread.append("outputSchema.type")
        return None
    return {"type": "object", **readable} if readable or not paths else None


def _read_call(result: dict[str, Any]) -> dict[str, Any]:
    if result.get("resultType", "complete") != "complete":
        return result  # questions of the server, in the revision 2026-07-28
    problems: list[str] = []
    structured = result.get("structuredContent")
    content = _content(_content_value(result), problems)
    if not isinstance(structured, dict | None):
        text = _text_of(structured)
        if all(_json(block.get("text")) != structured for block in content):
            content.append({"type": "text", "text": text})
        kind = "a list" if isinstance(structured, list) else f"the value {text[:40]}"
        problems.append(f"The structured content is {kind} instead of an object, so it is only text here.")
        structured = None
    if structured is None and not content and not problems and result.get("content") != []:
        problems.append("The result has no content.")
    return {
        "resultType": "complete",
        "content": content,
        "isError": result.get("isError") in (True, "true", 1),
        **({} if structured is None else {"structuredContent": structured}),
        "_meta": {PROBLEMS: problems},
    }


def _content_value(result: Mapping[str, Any]) -> Any:
    """Return the content of a result, wherever the server put it."""
    for name in ("content", _VALUE, "toolResult"):
        if result.get(name) is not None:
            return result[name]
    members = ("content", _VALUE, "structuredContent", "isError", "_meta", "resultType")
    other_members = {name: value for name, value in result.items() if name not in members}
    return (
        [] if not other_members or result.get("structuredContent") is not None else [_text_of(other_members)]
    )


def _content(value: Any, problems: list[str]) -> list[dict[str, Any]]:
    """Return the items of content that can be read. A text or an object in place of a list is the only item."""
    blocks = []
    for item in value if isinstance(value, list) else [value]:
        block = _block(item)
        if isinstance(block, str):
            problems.append(block)
        else:
            blocks.append(block)
    return blocks


def _block(item: Any) -> dict[str, Any] | str:
    """Return an item of content, or a sentence that says why it cannot be read."""
    if not isinstance(item, dict):
        return {"type": "text", "text": _text_of(item)}
    kind = item.get("type", "text" if "text" in item else None)
    resource = item.get("resource")
    match kind:
        case "text" if item.get("text") is not None:
            return {"type": "text", "text": _text_of(item["text"])}
        case "image" | "audio" if isinstance(item.get("data"), str):
            media_type = _text_of(item.get("mimeType") or f"{kind}/*")
            return {"type": kind, "data": item["data"], "mimeType": media_type}
        case "resource" if isinstance(resource, dict) and {"text", "blob"} & resource.keys():
            contents = (
                {"blob": resource["blob"]}
                if isinstance(resource.get("blob"), str)
                else {"text": _text_of(resource.get("text"))}
            )
            uri = _text_of(resource.get("uri") or "")
            return {"type": "resource", "resource": {"uri": uri, **_texts(resource, "mimeType"), **contents}}
        case "resource_link" if isinstance(item.get("uri"), str):
            name = _text_of(item.get("name") or item["uri"])
            return {"type": "resource_link", "uri": item["uri"], "name": name}
        case "text" | "image" | "audio" | "resource" | "resource_link":
            return f"An item of the type '{kind}' has no content that can be read."
    if isinstance(item.get("text"), str):
        return {"type": "text", "text": item["text"]}
    if kind is None:
        return {"type": "text", "text": _text_of(item)}
    return f"An item of the unknown type '{_text_of(kind)[:40]}' could not be read."


_READERS: Final[Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "initialize": _read_initialize,
    "tools/list": _read_tools,
    "tools/call": _read_call,
}
"""How the result of each method is read."""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Mapping[str, Any], *names: str) -> dict[str, str]:
    """Return those of the members that are texts."""
    return {name: value[name] for name in names if isinstance(value.get(name), str)}


def _text_of(value: Any) -> str:
    """Return a text as it is, and any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json(text: Any) -> Any:
    """Return the value of a JSON text, or ``None``."""
    try:
        return orjson.loads(text)
    except (TypeError, ValueError):
        return None
