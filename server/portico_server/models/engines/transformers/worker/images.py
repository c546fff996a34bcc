"""Images in requests and answers: measured before they are decoded, and encoded as asked."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import Refusal

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""Of one image as it is sent."""

MAX_IMAGE_PIXELS = 40_000_000
"""Of one image; a small file can hold a very large one."""

MAX_IMAGES = 16
"""Images in one request."""

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is a warning first, and larger; ours is looked at below

INPUT_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")

_BROKEN = (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError)
"""What Pillow raises for a picture that is damaged; what is not base64 is a `ValueError`."""


def read_image(url: Any, param: str) -> Any:
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
    if len(data) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise Refusal(f"An image may have {MAX_IMAGE_BYTES >> 20} MB.", "image_too_large", param)
    try:
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)), formats=INPUT_FORMATS)
        width, height = image.size
        if width * height > MAX_IMAGE_PIXELS:
            raise Refusal(
                f"The image has {width} × {height} pixels; at most {MAX_IMAGE_PIXELS:,} are taken.",
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
    """A picture that came with a request, upright, in ``mode``. Raises `Refusal` that names the field."""
    try:
        picture = Image.open(io.BytesIO(data), formats=OUTPUT_FORMATS)
        width, height = picture.size
        if width * height > MAX_IMAGE_PIXELS:
            raise Refusal(
                f"The picture has {width} × {height} pixels; at most {MAX_IMAGE_PIXELS:,} are taken.",
                "image_too_large",
                param,
            )
        return ImageOps.exif_transpose(picture).convert(mode)
    except _BROKEN as error:
        why = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise Refusal(
            f"The picture cannot be read as {', '.join(OUTPUT_FORMATS)}{why}.", "invalid_image_format", param
        ) from error


def inpainting_mask(mask: Any) -> Any:
    """A mask as diffusers takes it, white where something is to change, of one that is transparent there."""
    return mask.getchannel("A").point(lambda alpha: 255 if alpha < 128 else 0)


def encode_picture(picture: Any, kind: str, quality: int) -> str:
    """The picture as base64: ``png``, ``jpeg`` or ``webp``; ``quality`` from 0 to 100 holds for the latter two."""
    out = io.BytesIO()
    if kind == "png":
        picture.save(out, "PNG")
    else:
        picture.convert("RGB").save(out, kind.upper(), quality=quality)
    return base64.b64encode(out.getvalue()).decode()


def fit_size(width: int, height: int, step: int, limit: int) -> tuple[int, int]:
    """The size nearest below this one whose sides are multiples of ``step``, with at most ``limit`` pixels."""
    if width * height > limit:
        shrink = (limit / (width * height)) ** 0.5
        width, height = int(width * shrink), int(height * shrink)
    return max(step, width // step * step), max(step, height // step * step)


OUTPUT_FORMATS = ("png", "jpeg", "webp")


def output_format(body: Mapping[str, Any]) -> tuple[str, int]:
    """Format and quality that a request asks for. Raises `Refusal`."""
    kind = body.get("output_format") or "png"
    if kind not in OUTPUT_FORMATS:
        raise Refusal(
            f"'output_format' is '{kind}', but this engine writes {', '.join(OUTPUT_FORMATS)}.",
            param="output_format",
        )
    if body.get("background") == "transparent":
        raise Refusal(
            "'background' is 'transparent', but this model paints every pixel. Leave it out.",
            param="background",
        )
    quality = body.get("output_compression")
    return kind, 95 if quality is None else int(quality)
