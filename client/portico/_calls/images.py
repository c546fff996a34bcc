"""Requests for pictures, and how to read what comes back, as `portico._calls` has the others."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from portico._calls.call import Call, given
from portico.errors import InvalidRequest, NotPortico
from portico.images import Picture
from portico.values import Model

Source: TypeAlias = str | Path | bytes
"""A picture as a file here, as bytes, or as the id of an uploaded file or an artifact."""

_KINDS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp", b"GIF8": "image/gif"}


def image_draw(prompt: str, model: str, size: str, n: int, options: Mapping[str, Any]) -> Call[list[Picture]]:
    body = {"model": model, "prompt": prompt, **_asked(size, n, options)}
    return Call("POST", "/v1/images/generations", _pictures, json=body, slow=True)


def image_edit(
    images: Source | Sequence[Source],
    prompt: str,
    mask: Source | None,
    model: str,
    size: str,
    n: int,
    options: Mapping[str, Any],
) -> Call[list[Picture]]:
    several = [images] if isinstance(images, str | Path | bytes) else list(images)
    body = {
        "model": model,
        "prompt": prompt,
        "images": [_reference(one) for one in several],
        **given(mask=None if mask is None else _reference(mask)),
        **_asked(size, n, options),
    }
    return Call("POST", "/v1/images/edits", _pictures, json=body, slow=True)


def who_draws(models: Sequence[Model], capability: str) -> str:
    """The model to ask when none was named: ``default-image``, or the first that can. Raises `InvalidRequest`."""
    able = [model.id for model in models if capability in model.capabilities]
    if "default-image" in able:
        return "default-image"
    if not able:
        what = "changes pictures" if capability == "image_edits" else "draws"
        raise InvalidRequest(
            f"No model of this daemon {what}. Add one, such as: portico models add painter "
            "hf://stable-diffusion-v1-5/stable-diffusion-v1-5 --task image",
            param="model",
        )
    return able[0]


def _asked(size: str, n: int, options: Mapping[str, Any]) -> dict[str, Any]:
    if "stream" in options:
        raise InvalidRequest("Pictures come whole here: leave 'stream' out.", param="stream")
    return {"size": size, "n": n, **options, "response_format": "b64_json"}


def _reference(source: Source) -> dict[str, str]:
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


def _pictures(value: Any) -> list[Picture]:
    found = []
    try:
        for item in value["data"]:
            data = base64.b64decode(item["b64_json"])
            found.append(Picture(data, _kind(data), item.get("revised_prompt") or ""))
    except (KeyError, TypeError, ValueError) as error:
        raise NotPortico("The answer holds no pictures.") from error
    return found
