"""Validates image requests before they reach a model. Pure: values in, `InvalidRequest` out.

Source: https://platform.openai.com/docs/api-reference/images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.api.openai import bodies
from portico_server.core import fields, media
from portico_server.core.fields import BodyField, RequestBody
from portico_server.core.invalid import wrong, wrong_type
from portico_server.core.media import size_of

MAX_PROMPT_CHARS: Final = 32_000
"""Maximum length of a prompt, in characters."""


MAX_RESULTS: Final = 10
"""Maximum number of images per request."""


MAX_PARTIAL_IMAGES: Final = 3
"""Maximum number of partial images that are streamed before the final image."""


def _size(value: Any, path: str) -> None:
    if not isinstance(value, str):
        wrong_type(path, "a string", value)
    size_of(value, path)


def _check_combination(body: Mapping[str, Any]) -> None:
    if body.get("background") == "transparent" and body.get("output_format") == "jpeg":
        wrong("background", "is 'transparent', but JPEG has no transparency: request png or webp")
    if not body.get("stream"):
        if body.get("partial_images"):
            wrong("partial_images", "requires 'stream' to be true")
    elif body.get("response_format") == "url":
        wrong("response_format", "is 'url', but stream events contain their images as b64_json")


_FILE: Final = {"type": "string", "format": "binary"}


IMAGE: Final = RequestBody(
    {"model": bodies.MODEL, "prompt": fields.prose(MAX_PROMPT_CHARS)},
    {
        "n": fields.integer(1, MAX_RESULTS).annotate(default=1),
        "size": BodyField(
            _size,
            {
                "type": "string",
                "pattern": "^(auto|[0-9]+x[0-9]+)$",
                "default": "auto",
                "description": "auto, or WIDTHxHEIGHT in pixels",
            },
        ),
        "quality": fields.choice("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd").annotate(
            default="auto"
        ),
        "style": fields.choice("vivid", "natural"),
        "background": fields.choice("auto", "transparent", "opaque").annotate(default="auto"),
        "output_format": fields.choice("png", "jpeg", "webp", "gif", "svg").annotate(default="png"),
        "output_compression": fields.integer(0, 100),
        "response_format": fields.choice("url", "b64_json"),
        "input_fidelity": fields.choice("high", "low"),
        "moderation": fields.choice("auto", "low"),
        "stream": bodies.STREAM,
        "partial_images": fields.integer(0, MAX_PARTIAL_IMAGES).annotate(default=0),
        "user": fields.text(),
        "safety_identifier": fields.text(),
        "seed": fields.integer(),
        "steps": fields.integer(1, 500),
        "guidance_scale": fields.number(0, 100),
        "strength": fields.number(0, 1),
        "negative_prompt": fields.text(),
        "svg": fields.any_value(type="object"),
    },
    rule=_check_combination,
    example={"model": "painter", "prompt": "A lighthouse at night", "size": "512x512"},
)
"""``POST /v1/images/generations``."""


EDIT: Final = RequestBody(
    IMAGE.required,
    {**IMAGE.optional, "mask": fields.any_value(**_FILE)},
    IMAGE.rule,
    files={"image": {"type": "array", "maxItems": media.MAX_IMAGES, "items": _FILE}},
)
"""Body of ``POST /v1/images/edits`` as a form."""


def _images(value: Any, path: str) -> None:
    if not isinstance(value, list) or not value:
        wrong_type(path, "a list of objects with 'image_url' or 'file_id'", value)
    if len(value) > media.MAX_IMAGES:
        wrong(path, f"has {len(value)} items; at most {media.MAX_IMAGES} are allowed")


_REFERENCE: Final = {
    "type": "object",
    "properties": {"image_url": {"type": "string"}, "file_id": {"type": "string"}},
}


REFERRING_EDIT: Final = RequestBody(
    {
        **IMAGE.required,
        "images": BodyField(
            _images, {"type": "array", "minItems": 1, "maxItems": media.MAX_IMAGES, "items": _REFERENCE}
        ),
    },
    {**IMAGE.optional, "mask": fields.any_value(**_REFERENCE)},
    IMAGE.rule,
)
"""Body of ``POST /v1/images/edits`` as JSON, which references its images."""
