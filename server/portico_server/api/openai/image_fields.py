"""What must be right in a request for pictures before a model sees it. Pure: values in, `InvalidRequest` out.

Source: https://platform.openai.com/docs/api-reference/images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.api.openai import validate
from portico_server.api.openai.validate import Check
from portico_server.core.invalid import missing, wrong, wrong_type
from portico_server.core.media import size_of

LONGEST: Final = 32_000
"""Characters of a prompt."""

MOST: Final = 10
"""Pictures of one request."""

PARTIALS: Final = 3
"""Pictures on the way to one that is streamed."""

FORM: Final[Mapping[str, Any]] = {
    "n": "whole",
    "output_compression": "whole",
    "partial_images": "whole",
    "stream": "boolean",
    "seed": "whole",
    "steps": "whole",
    "guidance_scale": "number",
    "strength": "number",
    "svg": "json",
}
"""How the fields of a form read that are no texts."""


def check(body: Mapping[str, Any]) -> None:
    """Check all fields but the pictures that come with them."""
    validate.model(body)
    prompt = body.get("prompt")
    if prompt is None:
        missing("prompt")
    if not isinstance(prompt, str):
        wrong_type("prompt", "a string", prompt)
    if not prompt.strip():
        wrong("prompt", "must not be empty")
    if len(prompt) > LONGEST:
        wrong(
            "prompt",
            f"has {len(prompt):,} characters; at most {LONGEST:,} are taken",
            code="string_above_max_length",
        )
    validate.known_fields(body, _FIELDS)
    if body.get("background") == "transparent" and body.get("output_format") == "jpeg":
        wrong("background", "is 'transparent', but a JPEG has no transparency: ask for png or webp")
    if not body.get("stream"):
        if body.get("partial_images"):
            wrong("partial_images", "needs 'stream' to be true")
    elif body.get("response_format") == "url":
        wrong("response_format", "is 'url', but events of a stream hold their pictures as b64_json")


def _size(value: Any, path: str) -> None:
    if not isinstance(value, str):
        wrong_type(path, "a string", value)
    size_of(value, path)


_FIELDS: Mapping[str, Check] = {
    "n": validate.integer(1, MOST),
    "size": _size,
    "quality": validate.one_of("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"),
    "style": validate.one_of("vivid", "natural"),
    "background": validate.one_of("auto", "transparent", "opaque"),
    "output_format": validate.one_of("png", "jpeg", "webp", "gif", "svg"),
    "output_compression": validate.integer(0, 100),
    "response_format": validate.one_of("url", "b64_json"),
    "input_fidelity": validate.one_of("high", "low"),
    "moderation": validate.one_of("auto", "low"),
    "stream": validate.boolean,
    "partial_images": validate.integer(0, PARTIALS),
    "user": validate.string,
    "safety_identifier": validate.string,
    "seed": validate.integer(),
    "steps": validate.integer(1, 500),
    "guidance_scale": validate.number(0, 100),
    "strength": validate.number(0, 1),
    "negative_prompt": validate.string,
}
