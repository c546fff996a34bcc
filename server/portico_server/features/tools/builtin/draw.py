"""Creates images from text or from other images, with an image model of this daemon."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, Protocol

from portico_server.core import fetching, media
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, PorticoError
from portico_server.core.fetching import Fetcher
from portico_server.core.media import (
    Attachment,
    Draw,
    GeneratedImage,
    GeneratedImages,
    attach,
    check_mask,
    measure_image,
    size_of,
)
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import ToolResult
from portico_server.features.tools.able import able
from portico_server.features.tools.artifact import FIELDS
from portico_server.features.tools.tool import Tool
from portico_server.runs.artifacts import ArtifactStore, NewArtifact

MAX_IMAGES: Final = 10
"""Maximum number of images in one call."""

BYTES: Final = 64 * 1024 * 1024
"""Maximum size of an image that is fetched from a provider, in bytes."""

FETCH_TIMEOUT_S: Final = 60.0
"""Timeout for fetching an image, in seconds."""

EXAMPLE: Final = (
    "portico models add painter hf://stable-diffusion-v1-5/stable-diffusion-v1-5 --task image, or "
    "remote://openai/gpt-image-2"
)

_OPTIONS: Final = ("quality", "background", "output_format", "seed", "steps", "negative_prompt")


class PictureFiles(Protocol):
    """Reads files that were uploaded or created earlier."""

    async def read(
        self, file_id: str, caller: Principal, *, limit: int, param: str | None = None
    ) -> tuple[str, bytes]:
        """Return the name and content of a file. Raise `NotFound`, and `TooLarge` with ``param`` for more than
        ``limit`` bytes.
        """


def tool(registry: Registry, artifacts: ArtifactStore, files: PictureFiles, fetcher: Fetcher) -> Tool:
    """Return ``draw``, which creates images and stores them as artifacts."""

    async def read_attachment(file_id: str, field: str, at: str, context: Context) -> Attachment:
        name, data = await files.read(file_id, context.caller, limit=BYTES, param=at)
        return attach(field, name.rpartition("/")[2], data, at)

    async def bytes_of(generated_image: GeneratedImage) -> bytes:
        return generated_image.data or await fetching.read_whole(
            fetcher, generated_image.url, limit=BYTES, seconds=FETCH_TIMEOUT_S
        )

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        try:
            size = arguments.get("size") or "auto"
            size_of(size, "arguments.size")
            ids = arguments.get("images") or ()
            images = [
                await read_attachment(file_id, "image", f"arguments.images[{number}]", context)
                for number, file_id in enumerate(ids)
            ]
            mask = None
            if arguments.get("mask"):
                mask = await read_attachment(arguments["mask"], "mask", "arguments.mask", context)
            check_mask(tuple(images), mask, "arguments.mask")
            name = await able(
                registry,
                "image_edits" if images else "image",
                arguments.get("model") or "",
                context.caller,
                task_name="changes pictures" if images else "draws",
                example=EXAMPLE,
                usual="default-image",
            )
            options = {field: arguments[field] for field in _OPTIONS if arguments.get(field) is not None}
            request = Draw(arguments["prompt"], arguments.get("n") or 1, size, tuple(images), mask, options)
            generated_images = await context.call(name, request)
            if not isinstance(generated_images, GeneratedImages):
                raise EngineFailed(f"'{name}' returned something other than images.")
            image_data = [await bytes_of(generated_image) for generated_image in generated_images.images]
        except PorticoError as error:
            if error.status >= 500:
                raise
            return ToolResult(error.message, is_error=True)
        return await _keep(arguments["prompt"], name, generated_images, image_data, artifacts, context)

    return Tool(
        name="draw",
        title="Draw a picture",
        description=(
            "Make pictures of a description, or change pictures that were uploaded or made before. The pictures are "
            "kept and shown to the user."
        ),
        input_schema=_INPUT,
        output_schema=_OUTPUT,
        work=work,
        group="media",
        read_only=False,
    )


async def _keep(
    prompt: str,
    model: str,
    generated_images: GeneratedImages,
    data: list[bytes],
    artifacts: ArtifactStore,
    context: Context,
) -> ToolResult:
    stem = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")[:40].strip("-") or "picture"
    new_artifacts, sizes = [], []
    for number, image in enumerate(data, 1):
        image_header = measure_image(image)
        kind = image_header.media_type if image_header is not None else "application/octet-stream"
        sizes.append((image_header.width, image_header.height) if image_header is not None else (None, None))
        new_artifacts.append(NewArtifact(f"{stem}-{number}.{media.SUFFIXES.get(kind, 'bin')}", kind, image))
    kept_artifacts = await artifacts.keep(new_artifacts, context)
    pictures = [
        {
            **asdict(item),
            "width": width,
            "height": height,
            **({"revised_prompt": generated_image.revised_prompt} if generated_image.revised_prompt else {}),
        }
        for item, (width, height), generated_image in zip(
            kept_artifacts, sizes, generated_images.images, strict=True
        )
    ]
    lines = [
        f"Made {picture['name']} ({picture['width']} × {picture['height']} pixels): {picture['link']}"
        for picture in pictures
    ]
    return ToolResult("\n".join(lines), {"model": model, "pictures": pictures}, artifacts=kept_artifacts)


_ID: Final = {"type": "string", "minLength": 1, "maxLength": 100}

_INPUT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "prompt": {
            "type": "string",
            "minLength": 1,
            "maxLength": 32_000,
            "description": "What the picture shows, or what is to be changed.",
        },
        "model": {"type": "string", "description": "A model that draws; the first there is if left out."},
        "size": {"type": "string", "description": "auto, or WIDTHxHEIGHT in pixels such as 1024x1024."},
        "n": {"type": "integer", "minimum": 1, "maximum": MAX_IMAGES, "default": 1},
        "images": {
            "type": "array",
            "maxItems": media.MAX_IMAGES,
            "items": _ID,
            "description": "Ids of pictures to change: of uploaded files, or of artifacts.",
        },
        "mask": {
            **_ID,
            "description": "The id of a PNG as large as the first image, transparent where that is to change.",
        },
        "quality": {"enum": ["auto", "low", "medium", "high", "xhigh", "max"]},
        "background": {"enum": ["auto", "opaque", "transparent"]},
        "output_format": {"enum": ["png", "jpeg", "webp"]},
        "seed": {
            "type": "integer",
            "description": "The same seed gives the same picture, where models take one.",
        },
        "steps": {"type": "integer", "minimum": 1, "maximum": 500},
        "negative_prompt": {"type": "string", "maxLength": 32_000, "description": "What it must not show."},
    },
    "required": ["prompt"],
    "additionalProperties": False,
}

_OUTPUT: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "pictures": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    **FIELDS,
                    "width": {"type": ["integer", "null"]},
                    "height": {"type": ["integer", "null"]},
                    "revised_prompt": {"type": "string"},
                },
                "required": [*FIELDS, "width", "height"],
            },
        },
    },
    "required": ["model", "pictures"],
}
