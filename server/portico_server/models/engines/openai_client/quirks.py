"""Differences between OpenAI-compatible servers and OpenAI, and functions that adapt requests and answers to them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import Operation, Relay

if TYPE_CHECKING:
    from pydantic import ConfigDict


EXACT_FIELDS: Final[ConfigDict] = {"extra": "forbid"}
"""The way in which these classes are parsed from a configuration: an unknown field is an error."""

# Differences between an image server's API and OpenAI's ``/v1/images``, and functions that adapt requests to
# them. Pure. Sources: the providers' own documentation of their images endpoints.


@dataclass(frozen=True, slots=True)
class ImageQuirks:
    """The differences of one server. The defaults describe OpenAI's own API.

    ``renamed`` maps a field to the server's name for the field. ``dropped`` lists fields that the server would reject
    and that are only hints. ``refused`` lists fields that the server does not support, so a request with them fails.
    If ``taken`` is set, all fields not listed in it are dropped.
    """

    __pydantic_config__ = EXACT_FIELDS

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    taken: frozenset[str] | None = None
    sides: bool = False
    """True if the server expects ``width`` and ``height`` instead of ``size``."""
    encoded: str = "b64_json"
    """The value of ``response_format`` with which the server returns images as base64."""
    edits: bool = True
    """True if the server supports ``images/edits``."""
    inside: tuple[str, ...] = ()
    """Fields of ``images/generations`` in which the server accepts the images to edit, as data URLs."""


def fit_image_request(request: Relay, pictures: ImageQuirks, name: str) -> Relay:
    """Return the request in the form that the server accepts.

    Raises `InvalidRequest` for fields that the server does not support. ``name`` is the name of the model in the
    message.
    """
    body = dict(request.body)
    if request.files and not pictures.edits:
        body |= _inside(request, pictures, name)
        request = replace(request, operation="images/generations", files=())
    for key in sorted(pictures.refused & body.keys()):
        if body[key] not in ("auto", 1, None):
            raise InvalidRequest(
                f"The provider of '{name}' does not accept '{key}': leave it out, or use another model.",
                code="unsupported_parameter",
                param=key,
            )
    if body.get("size") == "auto":
        del body["size"]
    if pictures.sides and body.get("size"):
        width, _, height = str(body.pop("size")).partition("x")
        body |= {"width": int(width), "height": int(height)}
    if body.get("response_format") == "b64_json":
        body["response_format"] = pictures.encoded
    fitted_body = {}
    for key, value in body.items():
        target = pictures.renamed.get(key, key)
        if key in pictures.dropped or key in pictures.refused:
            continue
        if pictures.taken is None or target in pictures.taken or target in pictures.inside:
            fitted_body[target] = value
    return replace(request, body=fitted_body)


def _inside(request: Relay, pictures: ImageQuirks, name: str) -> Mapping[str, Any]:
    images = [file for file in request.files if file.field == "image"]
    is_masked = len(images) < len(request.files)
    if is_masked or len(images) > len(pictures.inside):
        able = f"{len(pictures.inside)} at a time, without a mask" if pictures.inside else "none"
        raise InvalidRequest(
            f"The provider of '{name}' does not support editing images in this way: it accepts {able}.",
            code="unsupported_operation",
            param="mask" if is_masked and pictures.inside else "image",
        )
    return {
        field: f"data:{file.media_type};base64,{base64.b64encode(file.data).decode()}"
        for field, file in zip(pictures.inside, images, strict=False)
    }


BOOKKEEPING_FIELDS = frozenset(
    {"metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user", "verbosity"}
)
"""Fields that OpenAI uses only for bookkeeping. They do not change the answer."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """The differences of one server. The defaults describe OpenAI's own API, for which requests are relayed unchanged.

    ``renamed`` maps a field of a chat to the server's name for the field. ``dropped`` lists fields that the server
    would reject and that do not change the requested result. ``refused`` lists fields that the server does not
    support; a request with them fails, because dropping them would be misleading. If ``taken`` is set, all fields not
    listed in it are dropped.
    """

    __pydantic_config__ = EXACT_FIELDS

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    taken: frozenset[str] | None = None
    stream_usage: bool = True
    """True if the server accepts a request for the token counts of a stream."""
    strict_tools: bool = True
    """True if the server supports ``tools[].function.strict``."""
    developer: bool = True
    """True if the server supports the role ``developer``. Otherwise, the role is changed to ``system``."""
    embedding_batch: int | None = None
    """Maximum number of texts that one call can embed, or ``None`` if the server sets no limit."""
    base64: bool = True
    """True if the server can return embeddings as base64, which OpenAI's own clients request."""
    pictures: ImageQuirks = ImageQuirks()


def fit_body(body: Mapping[str, Any], operation: Operation, quirks: Quirks, name: str) -> dict[str, Any]:
    """Return the body in the form that the server accepts.

    Raises `InvalidRequest` for a field that the server does not support. ``name`` is the name of the model in the
    message.
    """
    fields = {key: value for key, value in body.items() if value is not None}
    if operation != "chat/completions":
        return fields
    for key in sorted(quirks.refused & fields.keys()):
        if not _says_nothing(key, fields[key]):
            raise InvalidRequest(
                f"The provider of '{name}' does not accept '{key}': leave it out, or use another model.",
                code="unsupported_parameter",
                param=key,
            )
    fitted_body: dict[str, Any] = {}
    for key, value in fields.items():
        if key in quirks.dropped or key in quirks.refused:
            continue
        target = quirks.renamed.get(key, key)
        if target != key and target in fields:
            continue  # the client sent both fields; the one that is not renamed takes precedence
        if quirks.taken is None or target in quirks.taken:
            fitted_body[target] = value
    if not quirks.stream_usage:
        fitted_body.pop("stream_options", None)
    if not quirks.developer:
        fitted_body["messages"] = [_without_developer(message) for message in fitted_body.get("messages", ())]
    if not quirks.strict_tools and "tools" in fitted_body:
        fitted_body["tools"] = [_without_strict(tool) for tool in fitted_body["tools"]]
    return fitted_body


def _says_nothing(key: str, value: Any) -> bool:
    """Return whether the value of a field only requests the default behaviour."""
    return value in ({"n": 1, "response_format": {"type": "text"}}.get(key), False, [], {})


def _without_developer(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**message, "role": "system"} if message.get("role") == "developer" else message


def _without_strict(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    if not isinstance(function, Mapping) or "strict" not in function:
        return tool
    return {**tool, "function": {key: value for key, value in function.items() if key != "strict"}}
