"""Images that come inside a request, as ``data:`` URLs: measured before they are unpacked."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

from PIL import Image, UnidentifiedImageError

from .refusal import Refusal

BYTES = 20 * 1024 * 1024
"""Of one image as it is sent."""

PIXELS = 40_000_000
"""Of one image; a small file can hold a very large one."""

MOST = 16
"""Images in one request."""

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is a warning first, and larger; ours is looked at below

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


def image(url: Any, param: str) -> Any:
    """The picture of a ``data:`` URL, in RGB. Raises `Refusal` that names the field."""
    if not isinstance(url, str) or not url.startswith("data:"):
        raise Refusal(
            "Images are taken as data: URLs (data:image/png;base64,…); nothing is fetched from elsewhere.",
            "unsupported_value",
            param,
        )
    head, comma, data = url[5:].partition(",")
    if not comma or not head.startswith("image/") or not head.endswith(";base64"):
        raise Refusal("An image's URL must be data:image/TYPE;base64,DATA.", "invalid_image_url", param)
    if len(data) > BYTES * 4 // 3 + 4:
        raise Refusal(f"An image may have {BYTES >> 20} MB.", "image_too_large", param)
    try:
        opened = Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=FORMATS)
        width, height = opened.size
        if width * height > PIXELS:
            raise Refusal(
                f"The image has {width} × {height} pixels; at most {PIXELS:,} are taken.",
                "image_too_large",
                param,
            )
        return opened.convert("RGB")
    except (
        binascii.Error,
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
    ) as error:
        raise Refusal(
            f"The image cannot be read as {', '.join(FORMATS)}: {error}", "invalid_image_format", param
        ) from error
