"""Where an OpenAI-compatible server differs from OpenAI, and requests and answers made to fit."""

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
"""How these classes are read from a configuration: a field that they lack is an error."""

# Where a server that draws differs from OpenAI's ``/v1/images``, and a request made to fit it. Pure.
#
# Sources: the providers' own documentation of their images endpoints.


@dataclass(frozen=True, slots=True)
class ImageQuirks:
    """One server's habits. The default is OpenAI's own dialect.

    ``renamed`` maps a field to its name there; ``dropped`` are fields that it would refuse and that are hints at most;
    ``refused`` are fields that it cannot honour. ``taken``: any other field is dropped.
    """

    __pydantic_config__ = EXACT_FIELDS

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    taken: frozenset[str] | None = None
    sides: bool = False
    """Whether it wants ``width`` and ``height`` instead of ``size``."""
    encoded: str = "b64_json"
    """What it calls pictures as base64 in ``response_format``."""
    edits: bool = True
    """Whether it has ``images/edits``."""
    inside: tuple[str, ...] = ()
    """Fields of ``images/generations`` in which it takes pictures to be changed, as data URLs."""


def fit_image_request(request: Relay, pictures: ImageQuirks, name: str) -> Relay:
    """The request as this server takes it.

    Raises `InvalidRequest` for what cannot be honoured; ``name`` is the model's, for the message.
    """
    body = dict(request.body)
    if request.files and not pictures.edits:
        body |= _inside(request, pictures, name)
        request = replace(request, operation="images/generations", files=())
    for key in sorted(pictures.refused & body.keys()):
        if body[key] not in ("auto", 1, None):
            raise InvalidRequest(
                f"The provider of '{name}' does not take '{key}': leave it out, or use another model.",
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
            f"The provider of '{name}' changes pictures in a way of its own: it takes {able}.",
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
"""Fields that OpenAI keeps for itself: an answer is the same without them."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """One server's habits. The default is OpenAI's own dialect, relayed as it is.

    ``renamed`` maps a field of a chat to the name it has there; ``dropped`` are fields that it would refuse
    and that change nothing which was asked for; ``refused`` are fields that it cannot honour, so that leaving
    them out would be a lie. ``taken``: any other field is dropped.
    """

    __pydantic_config__ = EXACT_FIELDS

    renamed: Mapping[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    taken: frozenset[str] | None = None
    stream_usage: bool = True
    """Whether it may be asked for the token counts of a stream."""
    strict_tools: bool = True
    """Whether ``tools[].function.strict`` is known there."""
    developer: bool = True
    """Whether the role ``developer`` is known there; otherwise it becomes ``system``."""
    embedding_batch: int | None = None
    """Texts that one call may embed."""
    base64: bool = True
    """Whether it sends embeddings as base64, which OpenAI's own clients ask for."""
    pictures: ImageQuirks = ImageQuirks()


def fit_body(body: Mapping[str, Any], operation: Operation, quirks: Quirks, name: str) -> dict[str, Any]:
    """The body as this server takes it.

    Raises `InvalidRequest` for a field that cannot be honoured; ``name`` is the model's, for the message.
    """
    fields = {key: value for key, value in body.items() if value is not None}
    if operation != "chat/completions":
        return fields
    for key in sorted(quirks.refused & fields.keys()):
        if not _says_nothing(key, fields[key]):
            raise InvalidRequest(
                f"The provider of '{name}' does not take '{key}': leave it out, or use another model.",
                code="unsupported_parameter",
                param=key,
            )
    fitted_body: dict[str, Any] = {}
    for key, value in fields.items():
        if key in quirks.dropped or key in quirks.refused:
            continue
        target = quirks.renamed.get(key, key)
        if target != key and target in fields:
            continue  # both were sent: the one that needs no translation counts
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
    """Whether a field only asks for what happens anyway."""
    return value in ({"n": 1, "response_format": {"type": "text"}}.get(key), False, [], {})


def _without_developer(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**message, "role": "system"} if message.get("role") == "developer" else message


def _without_strict(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    function = tool.get("function")
    if not isinstance(function, Mapping) or "strict" not in function:
        return tool
    return {**tool, "function": {key: value for key, value in function.items() if key != "strict"}}
