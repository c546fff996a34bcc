"""Audio and images: requests for speech, transcription and images, and their results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, Final, Literal, TypeAlias

from portico.audio import Stretch
from portico.wire import Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest

AudioFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
"""``pcm`` is 24 kHz, one channel, 16 bits, little-endian, without a header."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file attached to a request. ``field`` is the name of its form field in OpenAI's API: ``file``, ``image`` or
    ``mask``.
    """

    field: str
    name: str
    media_type: str
    data: bytes


FILES_CAPABILITY: Final = "files"
"""Capability of a model that accepts files unchanged. All other models receive the text of files."""


def is_file(part: Any) -> bool:
    """Return whether a content part of a message is a file in OpenAI's format."""
    return isinstance(part, Mapping) and part.get("type") == "file"


def holds_files(messages: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether any of the messages contains a file."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, list) and any(map(is_file, content)):
            return True
    return False


@dataclass(frozen=True, slots=True)
class Speak:
    """A text to speak. ``speed`` is from 0.25 to 4; ``options`` are parameters that only some models support."""

    input: str
    voice: str = ""
    response_format: AudioFormat = "mp3"
    speed: float = 1.0
    instructions: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Speech to transcribe; with ``translate``, into English.

    ``language`` is an ISO 639-1 code; ``prompt`` is the preceding text or a spelling hint. With ``stream``, models
    that support streaming send the text so far as `Delta` events, which is possible only without ``timestamps``.
    """

    file: Attachment
    language: str = ""
    prompt: str = ""
    temperature: float = 0.0
    translate: bool = False
    timestamps: Literal["", "segment", "word"] = ""
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Draw:
    """A request for ``n`` images described by a text. If ``images`` are given, they are edited, and only where
    ``mask`` is transparent. ``size`` is ``auto`` or WIDTHxHEIGHT in pixels.
    """

    prompt: str
    n: int = 1
    size: str = "auto"
    images: tuple[Attachment, ...] = ()
    mask: Attachment | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Speech:
    """The result of `Speak`: audio in the requested format."""

    audio: bytes
    media_type: str
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Transcription:
    """The result of `Transcribe`. ``duration`` is in seconds; ``segments`` and ``words`` are set if the model returns
    them.
    """

    text: str
    language: str = ""
    duration: float | None = None
    segments: tuple[Stretch, ...] = ()
    words: tuple[Stretch, ...] = ()
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """One of `GeneratedImages`. ``revised_prompt`` is set if the model received a changed prompt. Without ``data``,
    the image must still be fetched from ``url`` at its provider.
    """

    data: bytes
    media_type: str
    revised_prompt: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """The result of `Draw`: the requested number of images."""

    images: tuple[GeneratedImage, ...]
    usage: Usage = Usage()
    model: str = ""


# Reads the type and size of an image from its first bytes. Pure: nothing is unpacked. Sources: the PNG
# specification (W3C, third edition), ITU T.81 for JPEG, RFC 9649 for WebP.


MAX_IMAGE_PIXELS: Final = 40_000_000
"""Maximum number of pixels in an image, because a small file can contain a very large image."""

MAX_IMAGES: Final = 16
"""Maximum number of images in a request."""

SMALLEST, LARGEST = 16, 8192
"""Minimum and maximum side length of a requested image, in pixels."""

SUFFIXES: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}
"""File name suffix for each image type."""

_SIZE: Final = re.compile(r"([1-9]\d{0,5})x([1-9]\d{0,5})")
_NO_SIZE: Final = frozenset({0xC4, 0xC8, 0xCC})
"""JPEG markers in the range of frame markers but do not start a frame."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The media type of an image, its size in pixels, and whether its pixels may be transparent."""

    media_type: str
    width: int
    height: int
    alpha: bool = False


def measure_image(data: bytes) -> ImageHeader | None:
    """Return the header of a PNG, JPEG or WebP; ``None`` for any other data."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 29:
        width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        alpha = data[25] in (4, 6) or b"tRNS" in data[33:2048]
        return ImageHeader("image/png", width, height, alpha) if width and height else None
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp(data)
    return None


def _jpeg(data: bytes) -> ImageHeader | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_SIZE:
            height, width = (
                int.from_bytes(data[at + 5 : at + 7], "big"),
                int.from_bytes(data[at + 7 : at + 9], "big"),
            )
            return ImageHeader("image/jpeg", width, height) if width and height else None
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp(data: bytes) -> ImageHeader | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return ImageHeader("image/webp", width, height, bool(data[20] & 0x10))
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return ImageHeader("image/webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1))
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
        return ImageHeader("image/webp", width, height) if width and height else None
    return None


def size_of(text: str, param: str) -> tuple[int, int] | None:
    """Return the width and height in a text of the form WIDTHxHEIGHT; ``None`` for ``auto``. Raises
    `InvalidRequest`.
    """
    if text == "auto":
        return None
    match = _SIZE.fullmatch(text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not match or not (SMALLEST <= width <= LARGEST and SMALLEST <= height <= LARGEST):
        raise InvalidRequest(
            f"'{param}' is '{text[:40]}', but must be 'auto' or WIDTHxHEIGHT in pixels, such as 1024x1024, with sides "
            f"from {SMALLEST} to {LARGEST}.",
            param=param,
        )
    if width * height > MAX_IMAGE_PIXELS:
        raise InvalidRequest(
            f"'{param}' is '{text}', which has {width * height:,} pixels; the maximum is "
            f"{MAX_IMAGE_PIXELS:,}.",
            param=param,
        )
    return width, height


def attach(field: str, name: str, data: bytes, param: str) -> Attachment:
    """Return an image as an attachment. Raises `InvalidRequest` if the data are not an image or the image is too large
    to unpack.
    """
    image_header = measure_image(data)
    if image_header is None:
        raise InvalidRequest(
            f"'{param}' is not a readable image ({name[:80]}): send a PNG, JPEG or WebP.",
            code="invalid_image_format",
            param=param,
        )
    if image_header.width * image_header.height > MAX_IMAGE_PIXELS:
        raise InvalidRequest(
            f"'{param}' has {image_header.width} × {image_header.height} pixels; the maximum is "
            f"{MAX_IMAGE_PIXELS:,}. Send a smaller image.",
            code="image_too_large",
            param=param,
        )
    return Attachment(field, name, image_header.media_type, data)


def check_mask(images: tuple[Attachment, ...], mask: Attachment | None, param: str) -> None:
    """Raise `InvalidRequest` unless ``mask`` has the size of the first of ``images`` and an alpha channel."""
    if mask is None:
        return
    image_header, first = measure_image(mask.data), measure_image(images[0].data) if images else None
    if image_header is None or first is None:
        raise InvalidRequest(f"'{param}' requires an image to edit.", param=param)
    if (image_header.width, image_header.height) != (first.width, first.height):
        raise InvalidRequest(
            f"'{param}' has {image_header.width} × {image_header.height} pixels, but the image has "
            f"{first.width} × {first.height}: a mask must have the size of the first image.",
            code="invalid_mask",
            param=param,
        )
    if not image_header.alpha:
        raise InvalidRequest(
            f"'{param}' has no transparency: send a PNG with an alpha channel, transparent where the image "
            "may change.",
            code="invalid_mask",
            param=param,
        )
