"""Pictures on their way in and out of a model that draws."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from .images import PIXELS
from .refusal import Refusal

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is a warning first, and larger; ours is looked at below

FORMATS = ("PNG", "JPEG", "WEBP")


def opened(data: bytes, param: str, mode: str = "RGB") -> Any:
    """A picture that came with a request, upright, in ``mode``. Raises `Refusal` that names the field."""
    try:
        found = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = found.size
        if width * height > PIXELS:
            raise Refusal(
                f"The picture has {width} × {height} pixels; at most {PIXELS:,} are taken.",
                "image_too_large",
                param,
            )
        return ImageOps.exif_transpose(found).convert(mode)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        why = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise Refusal(
            f"The picture cannot be read as {', '.join(FORMATS)}{why}.", "invalid_image_format", param
        ) from error


def holes(mask: Any) -> Any:
    """A mask as diffusers takes it, white where something is to change, of one that is transparent there."""
    return mask.getchannel("A").point(lambda alpha: 255 if alpha < 128 else 0)


def encoded(picture: Any, kind: str, quality: int) -> str:
    """The picture as base64: ``png``, ``jpeg`` or ``webp``; ``quality`` from 0 to 100 holds for the latter two."""
    out = io.BytesIO()
    if kind == "png":
        picture.save(out, "PNG")
    else:
        picture.convert("RGB").save(out, kind.upper(), quality=quality)
    return base64.b64encode(out.getvalue()).decode()


def fitted(width: int, height: int, step: int, most: int) -> tuple[int, int]:
    """The size nearest below this one whose sides are multiples of ``step``, with at most ``most`` pixels."""
    if width * height > most:
        shrink = (most / (width * height)) ** 0.5
        width, height = int(width * shrink), int(height * shrink)
    return max(step, width // step * step), max(step, height // step * step)


def kind_of(body: Mapping[str, Any], kinds: Sequence[str] = ("png", "jpeg", "webp")) -> tuple[str, int]:
    """Format and quality that a request asks for. Raises `Refusal`."""
    kind = body.get("output_format") or "png"
    if kind not in kinds:
        raise Refusal(
            f"'output_format' is '{kind}', but this engine writes {', '.join(kinds)}.", param="output_format"
        )
    if body.get("background") == "transparent":
        raise Refusal(
            "'background' is 'transparent', but this model paints every pixel. Leave it out.",
            param="background",
        )
    quality = body.get("output_compression")
    return kind, 95 if quality is None else int(quality)
