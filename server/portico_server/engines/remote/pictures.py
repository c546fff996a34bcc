"""Where a server that draws differs from OpenAI's ``/v1/images``, and a request made to fit it. Pure.

Sources: the providers' own documentation of their images endpoints.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import Relay


@dataclass(frozen=True, slots=True)
class Pictures:
    """One server's habits. The default is OpenAI's own dialect.

    ``renamed`` maps a field to its name there; ``dropped`` are fields that it would refuse and that are hints at most;
    ``refused`` are fields that it cannot honour. ``taken``: any other field is dropped.
    """

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


def fit(request: Relay, pictures: Pictures, name: str) -> Relay:
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
    fitted = {}
    for key, value in body.items():
        target = pictures.renamed.get(key, key)
        if key in pictures.dropped or key in pictures.refused:
            continue
        if pictures.taken is None or target in pictures.taken or target in pictures.inside:
            fitted[target] = value
    return replace(request, body=fitted)


def _inside(request: Relay, pictures: Pictures, name: str) -> Mapping[str, Any]:
    images = [file for file in request.files if file.field == "image"]
    masked = len(images) < len(request.files)
    if masked or len(images) > len(pictures.inside):
        able = f"{len(pictures.inside)} at a time, without a mask" if pictures.inside else "none"
        raise InvalidRequest(
            f"The provider of '{name}' changes pictures in a way of its own: it takes {able}.",
            code="unsupported_operation",
            param="mask" if masked and pictures.inside else "image",
        )
    return {
        field: f"data:{file.media_type};base64,{base64.b64encode(file.data).decode()}"
        for field, file in zip(pictures.inside, images, strict=False)
    }
