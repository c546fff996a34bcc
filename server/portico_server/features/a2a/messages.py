"""Client messages: their validation and their conversion into parts of a request. Pure."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from collections.abc import Mapping
from typing import Any, Final

import orjson

from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.features.responses.tasks import TaskAnswer

MAX_PARTS: Final = 100
"""Maximum number of parts in one message."""

MAX_BESIDE_BYTES: Final = 16 * 1024
"""Maximum size of a message without the contents of its parts, in bytes of JSON. The metadata counts, for example,
because the task stores it.
"""

_CONTENTS: Final = ("text", "raw", "url", "data")

_TEXTS: Final = ("text/", "application/json", "application/xml", "application/yaml")

_ROLE: Final = "ROLE_USER"


def check_message(message: Any, at: str = "message") -> None:
    """Raise `InvalidRequest` unless the value is a valid client message."""
    if not isinstance(message, Mapping):
        wrong_type(at, "an object", message)
    for name in ("messageId", "role", "parts"):
        if message.get(name) in (None, "", []):
            missing(f"{at}.{name}")
    for name in ("messageId", "contextId", "taskId"):
        value = message.get(name)
        if value is not None and not isinstance(value, str):
            wrong_type(f"{at}.{name}", "a string", value)
        if value is not None and len(value) > 256:
            wrong(f"{at}.{name}", "is longer than 256 characters")
    if message["role"] != _ROLE:
        not_one_of(f"{at}.role", message["role"], (_ROLE,))
    parts = message["parts"]
    if not isinstance(parts, list):
        wrong_type(f"{at}.parts", "a list of parts", parts)
    if len(parts) > MAX_PARTS:
        wrong(f"{at}.parts", f"has {len(parts)} parts; at most {MAX_PARTS} are allowed")
    for number, part in enumerate(parts):
        _check_part(part, f"{at}.parts[{number}]")
    beside = [{name: part[name] for name in part if name not in _CONTENTS} for part in parts]
    size = len(orjson.dumps({**message, "parts": beside}))
    if size > MAX_BESIDE_BYTES:
        wrong(
            at,
            f"has {size:,} bytes in addition to the contents of its parts; at most {MAX_BESIDE_BYTES:,} "
            "bytes are allowed",
        )


def _check_part(part: Any, at: str) -> None:
    if not isinstance(part, Mapping):
        wrong_type(at, "an object", part)
    content_fields = [name for name in _CONTENTS if name in part]
    if len(content_fields) != 1:
        wrong(at, f"must have one of {', '.join(_CONTENTS)}")
    for name in (*_CONTENTS[:3], "filename", "mediaType"):
        if (part.get(name) is not None or name == content_fields[0]) and not isinstance(part[name], str):
            wrong_type(f"{at}.{name}", "a string", part[name])


def content_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a message as the input content of a response. Raises `InvalidRequest`."""
    return [_content(part, f"message.parts[{number}]") for number, part in enumerate(message["parts"])]


def _content(part: Mapping[str, Any], at: str) -> dict[str, Any]:
    if "text" in part:
        return {"type": "input_text", "text": part["text"]}
    if "data" in part:
        return {"type": "input_text", "text": orjson.dumps(part["data"]).decode()}
    name = part.get("filename") or ""
    kind = part.get("mediaType") or mimetypes.guess_type(name or part.get("url", ""))[0] or ""
    if "url" in part:
        if not kind.startswith("image/"):
            wrong(
                at,
                "is a link to a file, and linked files are not fetched; send the bytes as 'raw'",
                code=_NOT_TAKEN,
            )
        return {"type": "input_image", "image_url": part["url"]}
    try:
        data = base64.b64decode(part["raw"], validate=True)
    except (binascii.Error, ValueError):
        wrong(f"{at}.raw", "is not base64")
    if kind.startswith("image/"):
        return {"type": "input_image", "image_url": f"data:{kind};base64,{part['raw']}"}
    if kind.startswith(_TEXTS) or not kind:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            wrong(at, "has bytes that are not text; set 'mediaType'", code=_NOT_TAKEN)
        return {"type": "input_text", "text": f"{name}:\n{text}" if name else text}
    return {
        "type": "input_file",
        "filename": name or "file",
        "file_data": f"data:{kind};base64,{part['raw']}",
    }


_NOT_TAKEN: Final = "content_type_not_supported"


def answer_of(message: Mapping[str, Any]) -> TaskAnswer:
    """Return a message as the answer to a task's question."""
    data = next((part["data"] for part in message["parts"] if "data" in part), None)
    return TaskAnswer("\n".join(part["text"] for part in message["parts"] if "text" in part), data)
