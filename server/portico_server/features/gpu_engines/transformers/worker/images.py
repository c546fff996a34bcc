"""Images in requests and answers: their size is checked before decoding, and they are encoded as requested."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import Refusal

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""Maximum size of one image as sent, in bytes."""

MAX_IMAGE_PIXELS = 40_000_000
"""Maximum number of pixels of one image; a small file can contain a very large image."""

MAX_IMAGES = 16
"""Maximum number of images in one request."""

Image.MAX_IMAGE_PIXELS = (
    None  # Pillow's own limit is larger, and only warns at first; our limit is checked below
)

INPUT_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

_BROKEN = (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError)
"""Exceptions that Pillow raises for a damaged image; invalid base64 is a `ValueError`."""


def read_image(url: Any, param: str) -> Any:
    """Return the image of a ``data:`` URL in RGB. Raise `Refusal` that names the field."""
    if not isinstance(url, str) or not url.startswith("data:"):
        raise Refusal(
            "Images must be data: URLs (data:image/png;base64,…); Portico does not fetch images.",
            "unsupported_value",
            param,
        )
    head, comma, data = url[5:].partition(",")
    if not comma or not head.startswith("image/") or not head.endswith(";base64"):
        raise Refusal(
            "An image's URL must have the form data:image/TYPE;base64,DATA.", "invalid_image_url", param
        )
    if len(data) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise Refusal(
            f"The image is larger than the limit of {MAX_IMAGE_BYTES >> 20} MB.", "image_too_large", param
        )
    try:
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=INPUT_FORMATS)
        width, height = image.size
        if width * height > MAX_IMAGE_PIXELS:
            raise Refusal(
                f"The image has {width} × {height} pixels; at most {MAX_IMAGE_PIXELS:,} are allowed.",
                "image_too_large",
                param,
            )
        return image.convert("RGB")
    except _BROKEN as error:
        raise Refusal(
            f"The image cannot be read as {', '.join(INPUT_FORMATS)}: {error}", "invalid_image_format", param
        ) from error


OUTPUT_FORMATS = ("PNG", "JPEG", "WEBP")


def open_picture(data: bytes, param: str, mode: str = "RGB") -> Any:
    """Return an image of a request, upright, in ``mode``. Raise `Refusal` that names the field."""
    try:
        picture = Image.open(io.BytesIO(data), formats=OUTPUT_FORMATS)
        width, height = picture.size
        if width * height > MAX_IMAGE_PIXELS:
            raise Refusal(
                f"The image has {width} × {height} pixels; at most {MAX_IMAGE_PIXELS:,} are allowed.",
                "image_too_large",
                param,
            )
        return ImageOps.exif_transpose(picture).convert(mode)
    except _BROKEN as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise Refusal(
            f"The image cannot be read as {', '.join(OUTPUT_FORMATS)}{reason}.", "invalid_image_format", param
        ) from error


def inpainting_mask(mask: Any) -> Any:
    """Convert a mask from OpenAI's form (transparent where the image changes) to diffusers' form (white where it
    changes).
    """
    return mask.getchannel("A").point(lambda alpha: 255 if alpha < 128 else 0)


def encode_picture(picture: Any, kind: str, quality: int) -> str:
    """Return the image as base64 in ``png``, ``jpeg`` or ``webp``.

    ``quality`` from 0 to 100 applies to ``jpeg`` and ``webp``.
    """
    out = io.BytesIO()
    if kind == "png":
        picture.save(out, "PNG")
    else:
        picture.convert("RGB").save(out, kind.upper(), quality=quality)
    return base64.b64encode(out.getvalue()).decode()


def fit_size(width: int, height: int, step: int, limit: int) -> tuple[int, int]:
    """Return the largest size within ``width`` and ``height`` that fits ``limit``, in pixels.

    Both sides are multiples of ``step``.
    """
    if width * height > limit:
        shrink = (limit / (width * height)) ** 0.5
        width, height = int(width * shrink), int(height * shrink)
    return max(step, width // step * step), max(step, height // step * step)


OUTPUT_FORMATS = ("png", "jpeg", "webp")


def output_format(body: Mapping[str, Any]) -> tuple[str, int]:
    """Return the requested format and quality. Raise `Refusal` if the format is not supported."""
    kind = body.get("output_format") or "png"
    if kind not in OUTPUT_FORMATS:
        raise Refusal(
            f"'output_format' is '{kind}', but this engine writes {', '.join(OUTPUT_FORMATS)}.",
            param="output_format",
        )
    if body.get("background") == "transparent":
        raise Refusal(
            "'background' is 'transparent', but this model paints every pixel. Leave out 'background'.",
            param="background",
        )
    quality = body.get("output_compression")
    return kind, 95 if quality is None else int(quality)
