"""The SDK's types for generated images and image inputs."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, TypedDict

from portico.errors import InvalidRequest, NotPortico

ImageSource: TypeAlias = str | Path | bytes
"""An image: a local file, bytes, or the id of an uploaded file or an artifact."""


class PictureOptions(TypedDict, total=False):
    """Options for generating an image, in addition to the prompt: OpenAI's fields, and those of local models."""

    background: str
    extra_body: Mapping[str, Any]
    guidance_scale: float
    input_fidelity: str
    moderation: str
    negative_prompt: str
    output_compression: int
    output_format: str
    quality: str
    safety_identifier: str
    seed: int
    steps: int
    strength: float
    style: str
    svg: Any
    user: str


PICTURE_OPTIONS: Final[frozenset[str]] = PictureOptions.__optional_keys__

_KINDS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp", b"GIF8": "image/gif"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A generated image. ``revised_prompt`` is set if the model received a prompt different from the request's."""

    data: bytes = field(repr=False)
    media_type: str
    revised_prompt: str = ""

    def save(self, to: str | Path) -> Path:
        """Write the image to a file and return its path."""
        path = Path(to)
        path.write_bytes(self.data)
        return path


def image_reference(source: ImageSource) -> dict[str, str]:
    """Return an image as a request represents it."""
    if isinstance(source, str):
        return {"file_id": source}
    if isinstance(source, Path):
        try:
            data = source.read_bytes()
        except OSError as error:
            raise InvalidRequest(f"Cannot read '{source}': {error.strerror}.", param="image") from error
    else:
        data = source
    return {"image_url": f"data:{_kind(data)};base64,{base64.b64encode(data).decode()}"}


def _kind(data: bytes) -> str:
    return next(
        (kind for begin, kind in _KINDS.items() if data.startswith(begin)), "application/octet-stream"
    )


def pictures_of(value: Any) -> list[Picture]:
    """Return the images in a response in OpenAI's format. Raises `NotPortico`."""
    pictures = []
    try:
        for item in value["data"]:
            data = base64.b64decode(item["b64_json"])
            pictures.append(Picture(data, _kind(data), item.get("revised_prompt") or ""))
    except (KeyError, TypeError, ValueError) as error:
        raise NotPortico("The response contains no images.") from error
    return pictures
